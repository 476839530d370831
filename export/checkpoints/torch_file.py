"""Files of torch.save (.ckpt, .pth, .bin) as lazy tensors, read without running anything of them.

torch's weights-only unpickler builds tensors, containers and numbers alone. Training checkpoints also name
classes of the trainer: a class that is only mentioned (the published Stable Diffusion files have one as the
key of a dictionary) is replaced by an empty stand-in; one that would have to be called is refused.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import CheckpointError
from .lazy import LazyTensor, stored

_LOCAL_HEADER = 30
_LEGACY = bytes.fromhex("8a0a6cfc9c46f9206aa850192e")  # the pickled magic number of torch < 1.6
# Records of trainers and numbers of NumPy: what they would hold is not looked at.
_INERT = (
    "numpy.",
    "_codecs.encode",
    "pytorch_lightning.callbacks.",
    "lightning.pytorch.callbacks.",
    "pytorch_lightning.utilities.",
    "lightning.fabric.utilities.",
    "lightning_fabric.utilities.",
    "omegaconf.",
    "argparse.Namespace",
)


def read_torch(path: Path) -> dict[str, LazyTensor]:
    """The state dict in a file of torch.save: the file's `state_dict` entry if it has one, else its top.

    The zip format of torch >= 1.6 is read lazily. The format before that has no table of contents and is
    loaded whole.
    Raises CheckpointError: damaged, no state dict in it, or it would have to run code.
    """
    is_zip = starts_as_zip(path)
    if not is_zip and not is_legacy(path):
        raise _damaged(path, "it has no table of contents")
    try:
        content = _load(path, is_zip)
        starts = _records(path) if is_zip else {}
    except CheckpointError:
        raise
    except (
        Exception
    ) as error:  # torch and zipfile raise what they meet: RuntimeError, EOFError, KeyError, ...
        if isinstance(error, pickle.UnpicklingError) and (named := re.search(r"GLOBAL (\S+)", str(error))):
            raise _refused(path, named[1]) from None
        reason = str(error).partition("WeightsUnpickler error: ")[2] or str(error)
        lines = reason.strip().splitlines() or [type(error).__name__]
        raise _damaged(path, lines[0][:160].rstrip(". ")) from None
    state = _state_dict(content, path)
    if not is_zip:
        return {key: LazyTensor(tuple(t.shape), t.dtype, t.detach) for key, t in state.items()}
    return {key: _lazy(path, key, tensor, starts) for key, tensor in state.items()}


def starts_as_zip(path: Path) -> bool:
    """Whether a file begins as those of torch >= 1.6 do."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def is_legacy(path: Path) -> bool:
    """Whether a file begins as those of torch < 1.6 do."""
    with path.open("rb") as file:
        return _LEGACY in file.read(16)


def _load(path: Path, is_zip: bool) -> Any:
    if not is_zip:
        return torch.load(path, map_location="cpu", weights_only=True)
    unknown = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    with torch.serialization.safe_globals([(_stand_in(name, path), name) for name in unknown]):
        return torch.load(path, map_location="meta", weights_only=True)


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: damaged, or not a file of torch.save ({reason}); compare its size with the published one"
    )


def _refused(path: Path, name: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: refused: to read it, {ascii(name)[1:-1][:120]} would have to be called, which is code, not "
        "weights. Nothing of it was run. Take the safetensors version of the file, or convert it where you "
        "trust it"
    )


def _stand_in(name: str, path: Path) -> type:
    """A class that takes the place of `name`; nothing is imported. Making one is refused, unless inert."""

    def refuse(cls: type, *_: Any, **__: Any) -> Any:
        raise _refused(path, name)

    def make(cls: type, *_: Any, **__: Any) -> Any:
        return object.__new__(cls)

    def ignore(*_: Any) -> None:
        return None

    inert = name.startswith(_INERT)
    body = {"__new__": make if inert else refuse, "__init__": ignore, "__setstate__": ignore}
    return type("StandIn", (), body)


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    for _ in range(3):  # {"state_dict": {...}}, {"model": {"state_dict": ...}}
        if not isinstance(content, Mapping):
            break
        inner = next((content[k] for k in ("state_dict", "module", "model") if k in content), None)
        if not isinstance(inner, Mapping):
            break
        content = inner
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a dictionary of weights")
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors or not all(isinstance(key, str) for key in tensors):
        keys = ", ".join(ascii(key)[:40] for key in list(content)[:5])
        raise CheckpointError(f"{path}: holds no dictionary of named weights; its first keys: {keys}")
    return tensors


def _records(path: Path) -> dict[int, int]:
    """Where the data of each record of the zip begins, and its size; compressed ones are left out."""
    starts = {}
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                continue
            file.seek(entry.header_offset)
            header = file.read(_LOCAL_HEADER)
            extra = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
            start = entry.header_offset + _LOCAL_HEADER + extra
            if start + entry.file_size <= size:
                starts[start] = entry.file_size
    return starts


def _lazy(path: Path, key: str, tensor: Tensor, starts: Mapping[int, int]) -> LazyTensor:
    storage = tensor.untyped_storage()
    start = getattr(storage, "_checkpoint_offset", None)  # documented for lazy loading, torch >= 2.7
    last = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    elements = tensor.storage_offset() + 1 + last if tensor.numel() else 0
    needed = max(storage.nbytes(), elements * tensor.dtype.itemsize)
    if start is None or starts.get(start, -1) < needed:
        raise CheckpointError(f"{path}: damaged: the data of {ascii(key)[:120]} is not where it should be")
    offset = start + tensor.storage_offset() * tensor.dtype.itemsize
    stride = None if tensor.is_contiguous() else tuple(tensor.stride())
    return stored(path, offset, tensor.dtype, tuple(tensor.shape), stride)
