"""Opens a file of weights of any format as lazy tensors."""

from __future__ import annotations

from pathlib import Path

from .errors import CheckpointError
from .lazy import LazyTensor
from .mistakes import name_file
from .safetensors_file import read_safetensors
from .torch_file import is_legacy, read_torch, starts_as_zip

TORCH_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin")


def open_tensors(path: Path) -> dict[str, LazyTensor]:
    """All tensors of a safetensors or torch.save file, by name; nothing is read but its table of contents.

    The format is told from the content, since names lie: safetensors files called .ckpt are common.
    Raises CheckpointError with what the file is instead.
    """
    return open_with_metadata(path)[0]


def open_with_metadata(path: Path) -> tuple[dict[str, LazyTensor], dict[str, str]]:
    """`open_tensors`, and the texts that a safetensors file carries beside them."""
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"{path}: no such file")
    if not path.is_file():
        raise CheckpointError(f"{path}: not a file")
    try:
        return _open(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None


def _open(path: Path) -> tuple[dict[str, LazyTensor], dict[str, str]]:
    with path.open("rb") as file:
        head = file.read(16)
    # First: a header's length may begin with the bytes of any other format.
    if not _starts_as_safetensors(head) and (known := name_file(path)) is not None:
        raise CheckpointError(f"{path}: {known}")
    if _starts_as_safetensors(head) or path.suffix.lower() == ".safetensors":
        tensors, metadata = read_safetensors(path)
    elif starts_as_zip(path) or is_legacy(path) or path.suffix.lower() in TORCH_SUFFIXES:
        tensors, metadata = read_torch(path), {}
    else:
        raise CheckpointError(
            f"{path}: neither a safetensors file nor one of torch.save (.ckpt, .pth, .pt, .bin)"
        )
    if not tensors:
        raise CheckpointError(f"{path}: holds no tensors")
    return tensors, metadata


def _starts_as_safetensors(head: bytes) -> bool:
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**30
