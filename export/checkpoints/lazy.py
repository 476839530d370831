"""Tensors that lie in files: shape and dtype are known, the values are read when they are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from .errors import CheckpointError


@dataclass(frozen=True)
class TensorInfo:
    """Shape and stored dtype of a tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype


class WeightSource(Protocol):
    """The weights of one network, by the keys of its module's state dict; nothing is held in memory."""

    def infos(self) -> Mapping[str, TensorInfo]: ...

    def read(self, key: str) -> Tensor: ...


@dataclass(frozen=True)
class LazyTensor:
    """A tensor that is read anew with every `read`, and not kept."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    load: Callable[[], Tensor]

    @property
    def info(self) -> TensorInfo:
        return TensorInfo(self.shape, self.dtype)

    def read(self) -> Tensor:
        return self.load()

    def reshaped(self, *shape: int) -> LazyTensor:
        return LazyTensor(shape, self.dtype, lambda: self.load().reshape(shape))

    def transposed(self) -> LazyTensor:
        return LazyTensor(self.shape[::-1], self.dtype, lambda: self.load().T.contiguous())

    def rows(self, start: int, stop: int) -> LazyTensor:
        shape = (stop - start, *self.shape[1:])
        return LazyTensor(shape, self.dtype, lambda: self.load()[start:stop].clone())


Tensors = Mapping[str, LazyTensor]


@dataclass(frozen=True)
class Weights:
    """A `WeightSource` over lazy tensors."""

    tensors: Tensors

    def infos(self) -> Mapping[str, TensorInfo]:
        return {key: tensor.info for key, tensor in self.tensors.items()}

    def read(self, key: str) -> Tensor:
        return self.tensors[key].read()


@dataclass(frozen=True)
class Component:
    """One network of a checkpoint.

    config: that of its diffusers or transformers class, which `_class_name` or `architectures` names.
    files: where the weights lie.
    """

    config: Mapping[str, Any]
    weights: WeightSource
    files: tuple[Path, ...]


def stored(
    path: Path,
    offset: int,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    stride: tuple[int, ...] | None = None,
) -> LazyTensor:
    """A tensor whose first element lies at byte `offset` of a file; `stride` in elements, None: dense."""
    return LazyTensor(shape, dtype, lambda: _read(path, offset, dtype, shape, stride))


def _read(
    path: Path, offset: int, dtype: torch.dtype, shape: tuple[int, ...], stride: tuple[int, ...] | None
) -> Tensor:
    """Plain reads, not a memory map: a map would count as memory of the process and never shrink."""
    count = math.prod(shape)
    if stride is not None and count:
        count = 1 + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    raw = torch.empty(count * dtype.itemsize, dtype=torch.uint8)
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        view = memoryview(raw.numpy()) if count else memoryview(b"")
        done = 0
        while done < len(view):
            got = file.readinto(view[done:])
            if not got:
                raise CheckpointError(f"{path}: the file became shorter while it was read")
            done += got
    flat = raw.view(dtype)
    if stride is None or not math.prod(shape):
        return flat.reshape(shape)
    return flat.as_strided(shape, stride).contiguous()
