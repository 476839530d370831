"""The published weights of MeshGraphormer: read as data, mapped, checked key by key, dead ones dropped."""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from hoirt.errors import InputError
from torch import Tensor, nn

# In the file, but without influence on the result: BERT's embeddings of words and its poolers, a convolution
# that the graph block does not call, HRNet's classifier, the counters of batch normalisation.
_DEAD = re.compile(
    r"trans_encoder\.\d+\.bert\.(embeddings|pooler)\."
    r"|trans_encoder\.\d+\.bert\.encoder\.layer\.\d+\.graph_conv\.skip_conv\."
    r"|backbone\.classifier\."
    r"|.*\.num_batches_tracked$"
)
_LISTED = 12  # keys named in a message


def load_weights(module: nn.Module, path: Path) -> None:
    """Gives `module` the weights of `path`; those stored in float32 stay mapped to the file.

    Raises InputError as `read_weights`.
    """
    expected = {key: tensor.shape for key, tensor in live(module).items()}
    weights = read_weights(path, expected)
    # The counters of batch normalisation mean nothing here, but must not stay on the meta device.
    counters = {key: torch.zeros((), dtype=torch.int64) for key in module.state_dict() if key not in expected}
    module.load_state_dict(weights | counters, assign=True)
    module.requires_grad_(False)


def live(module: nn.Module) -> dict[str, Tensor]:
    """The entries of the module's state dict that a result depends on."""
    return {key: tensor for key, tensor in module.state_dict().items() if not _DEAD.match(key)}


def read_weights(path: Path, expected: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """The tensors named in `expected`, as float32.

    Args:
        path: a file of torch.save (only tensors and containers are unpickled) or .safetensors. Those that
            can be are mapped, so that no copy is made of weights in float32.
        expected: shape by key. Dead weights of the published file are accepted and dropped.

    Raises:
        InputError: not such a file; keys missing or unexpected (they are listed); a wrong shape, no floating
            point numbers, NaN or infinity.
    """
    found = _read(path)
    tensors = {key: value for key, value in found.items() if not _DEAD.match(key)}
    missing, unexpected = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or unexpected:
        raise InputError(
            f"{path} does not hold the weights of MeshGraphormer for hands{_likely(found)}: "
            f"{_listed('missing', missing)}; {_listed('unexpected', unexpected)}"
        )
    for key, tensor in tensors.items():
        if tensor.shape != expected[key]:
            hint = _likely(found)
            raise InputError(
                f"{path}: {key} has shape {tuple(tensor.shape)}, needed is {tuple(expected[key])}{hint}"
            )
        if not tensor.is_floating_point() or tensor.layout != torch.strided or tensor.is_meta:
            raise InputError(f"{path}: {key} is {tensor.dtype}, {tensor.layout}; needed are dense floats")
        if not math.isfinite(float(tensor.sum(dtype=torch.float64))):  # cheaper than a mask of the finite
            raise InputError(f"{path}: {key} holds NaN or infinity")
    return {key: tensor.float() for key, tensor in tensors.items()}


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"{path} {'is not a file' if path.exists() else 'does not exist'}")
    content = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise InputError(f"{path} does not hold a state dict: tensors by name")
    return dict(content)


def _safetensors(path: Path) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} is no safetensors file: {error}") from None


def _pickled(path: Path) -> object:
    try:
        # The format before torch 1.6 has no place to map from; it is read into memory.
        mapped = zipfile.is_zipfile(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except UnpicklingError as error:
        first = str(error).strip().split("\n")[0][:300]
        raise InputError(
            f"{path} is no file of tensors that can be read without running code: {first}"
        ) from None
    except (
        RuntimeError,
        OSError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
    ) as error:
        first = str(error).strip().split("\n")[0][:300]
        raise InputError(f"{path} cannot be read as a file of torch.save: {first}") from None


def _likely(found: Mapping[str, Tensor]) -> str:
    """What the user probably gave instead."""
    upsampling = found.get("upsampling.weight")
    if upsampling is not None and upsampling.shape != (778, 195):
        return " (these are MeshGraphormer's weights for bodies)"
    if "stage4.0.branches.0.0.conv1.weight" in found:
        return " (these are HRNet's own weights, which are not needed: the file has its backbone in it)"
    if any(key.startswith("module.") for key in found):
        return " (its keys begin with 'module.', as those of a training checkpoint)"
    return ""


def _listed(what: str, keys: list[str]) -> str:
    more = f" and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
    return f"{len(keys)} {what}" + (f": {', '.join(keys[:_LISTED])}{more}" if keys else "")
