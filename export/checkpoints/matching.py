"""Finds the weights of a module in a file whose names for them differ."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from .errors import CheckpointError
from .lazy import Component, LazyTensor, Tensors, Weights
from .modules import compare, empty_module

Find = Callable[[str], tuple[list[str], Callable[[LazyTensor], LazyTensor] | None]]
"""A key of the module's state dict -> the names that it may have in the file, and a change of the tensor."""

# Constants that files carry and modules make themselves.
_EXTRAS = re.compile(r"(.*\.)?(position_ids|logit_scale|num_batches_tracked)")


def match(
    tensors: Tensors,
    config: Mapping[str, Any],
    find: Find,
    files: Iterable[Path],
    prefix: str = "",
    label: str | None = None,
) -> Component:
    """The component of `config` whose weights are the tensors under `prefix`, each found by its name there.

    Raises CheckpointError, in the names of the file: missing, unexpected, wrong shapes, the likely mistake.
    """
    files = tuple(files)
    module = empty_module(config)
    under = {name for name in tensors if name.startswith(prefix)}
    used: set[str] = set()
    weights: dict[str, LazyTensor] = {}
    wanted: dict[str, tuple[int, ...]] = {}
    found: dict[str, tuple[int, ...]] = {}
    for key, value in module.state_dict().items():
        names, change = find(key)
        full = [prefix + name for name in names]
        name = next((name for name in full if name in under), None)
        shown = _shown(name or full[0], key, change is not None)
        shape = tuple(value.shape)
        wanted[shown] = shape
        if name is None:
            continue
        used.add(name)
        tensor = _changed(tensors[name], change, shape, files)
        weights[key], found[shown] = tensor, tensor.shape
    extra = {name for name in under - used if not _EXTRAS.fullmatch(name)}
    compare(found, wanted, label or type(module).__name__, _where(files), extra, under or tensors)
    return Component(dict(config), Weights(weights), files)


def _shown(name: str, key: str, is_part: bool) -> str:
    """The file's name; a part of a stacked tensor is told from the others by its key."""
    return f"{name} ({key})" if is_part else name


def _where(files: tuple[Path, ...]) -> str:
    return str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more files"


def _changed(
    tensor: LazyTensor,
    change: Callable[[LazyTensor], LazyTensor] | None,
    shape: tuple[int, ...],
    files: tuple[Path, ...],
) -> LazyTensor:
    if not tensor.dtype.is_floating_point:
        raise CheckpointError(
            f"{_where(files)}: weights of the dtype {str(tensor.dtype).removeprefix('torch.')} are not "
            "supported; they belong to a quantised file. Take the original one"
        )
    if change is not None:
        tensor = change(tensor)
    # A 1x1 convolution where a matrix belongs: how older versions stored attention.
    if len(shape) == 2 and len(tensor.shape) in (3, 4) and math.prod(tensor.shape[2:]) == 1:
        tensor = tensor.reshaped(*tensor.shape[:2])
    return tensor
