"""Torch tensors inside of pickles, as NumPy arrays and without torch.

A pickled tensor is a view (offset, size, stride) of a storage; the storage is a byte string that holds a file
of `torch.save` in its old format: pickles of a magic number, a version, the machine, the storage's name, the
list of names, then per name the number of values (int64) and the values.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hoirt.safe_pickle import Limits, load_first
from hoirt.safe_pickle_types import Bad, Global, Storage

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_LIMITS = Limits(size=2**30, instructions=200, depth=8)
_DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "ByteStorage": "u1",
    "CharStorage": "i1",
    "BoolStorage": "?",
}


def build(name: str, arguments: tuple[Any, ...]) -> Storage | NDArray[Any]:
    """What a pickle that calls torch's `name` stands for. Raises Bad."""
    if name == "_load_from_bytes":
        if len(arguments) != 1 or not isinstance(arguments[0], bytes):
            raise Bad("a torch storage is not made of bytes")
        return _storage(arguments[0])
    if name == "_rebuild_parameter":
        if not arguments or not isinstance(arguments[0], np.ndarray):
            raise Bad("a torch parameter is not made of a tensor")
        return arguments[0]
    if len(arguments) < 4 or not isinstance(arguments[0], Storage):
        raise Bad("a torch tensor has no storage")
    return _view(arguments[0].values, arguments[1], arguments[2], arguments[3])


def _view(values: NDArray[Any], offset: Any, size: Any, stride: Any) -> NDArray[Any]:
    for part in (size, stride):
        if not isinstance(part, tuple) or not all(type(n) is int and n >= 0 for n in part):
            raise Bad("the size and stride of a torch tensor are not tuples of integers >= 0")
    if type(offset) is not int or offset < 0 or len(size) != len(stride) or len(size) > 16:
        raise Bad("the offset, size or stride of a torch tensor is malformed")
    if math.prod(size) == 0:
        return np.zeros(size, values.dtype) if max(size) <= 2**31 else np.zeros(0, values.dtype)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if last >= values.size or math.prod(size) > values.size:
        raise Bad(f"a torch tensor of size {size} does not fit into its storage of {values.size} values")
    strides = [step * values.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(values[offset:], size, strides).copy()


def _storage(data: bytes) -> Storage:
    found: dict[str, tuple[Storage, str, int]] = {}

    def named(identity: Any) -> Storage:
        if not isinstance(identity, tuple) or len(identity) not in (5, 6):
            raise Bad("a torch storage has an unknown name")
        label, kind, name, _, count = identity[:5]
        dtype = _DTYPES.get(kind.name) if isinstance(kind, Global) and kind.module == "torch" else None
        if label != "storage" or dtype is None or not isinstance(name, str) or type(count) is not int:
            raise Bad("a torch storage has an unknown type or name")
        return found.setdefault(name, (Storage(np.empty(0, dtype)), dtype, count))[0]

    magic, at = load_first(data, "torch storage", _LIMITS)
    version, at = load_first(data, "torch storage", _LIMITS, at)
    machine, at = load_first(data, "torch storage", _LIMITS, at)
    if type(magic) is not int or magic != _MAGIC or type(version) is not int or version != _VERSION:
        raise Bad("a torch storage is not in the format of torch.save")
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise Bad("a torch storage comes from a big-endian machine")
    storage, at = load_first(data, "torch storage", _LIMITS, at, named)
    names, at = load_first(data, "torch storage", _LIMITS, at)
    if not isinstance(storage, Storage) or list(found) != names:
        raise Bad("a torch storage names other storages than it holds")
    dtype, count = next(iter(found.values()))[1:]
    stored = int.from_bytes(data[at : at + 8], "little", signed=True)
    raw = data[at + 8 :]
    if stored != count or count < 0 or len(raw) != count * np.dtype(dtype).itemsize:
        raise Bad(f"a torch storage of {count} values has {len(raw)} bytes")
    storage.values = np.frombuffer(raw, dtype)
    return storage
