"""The only things that a pickle read by safe_pickle may name, and how hoirt builds each of them itself."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAX_ITEMS = 2**31
_NUMBER = re.compile(r"[|<>=]?(b1|\?|[iu][1248]|f[248]|c8|c16)", re.ASCII)
_TEXT = re.compile(r"[|<>=]?[SU][1-9]\d{0,3}", re.ASCII)


class Bad(Exception):  # noqa: N818 - becomes an InputError with the place, never seen by a caller
    """What is wrong with the pickle."""


@dataclass(frozen=True)
class Global:
    """A (module, name) of the table: two strings, not the object that they name in Python."""

    module: str
    name: str


@dataclass(eq=False)
class Inert:
    """An object of a class that hoirt does not have: what the file says of it, and no behaviour.

    `args` is what the file would construct it with, `state` what it would set afterwards.
    """

    kind: str
    args: tuple[Any, ...] = ()
    state: Any = None


@dataclass(eq=False)
class Dtype:
    """numpy.dtype while it is being built; NumPy's own would take any state from the file."""

    code: str
    order: str = "="
    built: bool = False

    def numpy(self) -> np.dtype[Any]:
        order = self.order if self.order in "<>" else "="
        return np.dtype(self.code).newbyteorder(order)  # type: ignore[arg-type]


@dataclass(eq=False)
class Storage:
    """A torch storage: the flat values that tensors are views of, read after the pickle that names them."""

    values: NDArray[Any] = field(repr=False)


def shown(value: Any) -> str:
    if isinstance(value, Global):
        return f"{value.module}.{value.name}"
    return f"a {value.kind if isinstance(value, Inert) else type(value).__name__}"


def construct(function: Any, arguments: Any) -> Any:
    """What REDUCE, NEWOBJ, INST and OBJ make: by the builder of the table, or an error."""
    if not isinstance(function, Global):
        raise Bad(f"it calls {shown(function)}; only names of the table can be built")
    if not isinstance(arguments, tuple):
        raise Bad(f"the arguments of {shown(function)} are {shown(arguments)}, not a tuple")
    return BUILDERS[function.module, function.name](function, arguments)


def apply_state(target: Any, state: Any) -> None:
    """What BUILD does: fills an array, a dtype or an Inert record, each once; anything else is an error."""
    if isinstance(target, Inert) and target.state is None:
        # (state, slots) is how classes with slots are written.
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):
            state = {**(state[0] or {}), **state[1]} if isinstance(state[0], dict | None) else state
        target.state = state
    elif isinstance(target, np.ndarray) and target.shape == (0,) and target.dtype == np.int8:
        _fill(target, state)
    elif isinstance(target, Dtype) and not target.built:
        _set_order(target, state)
    else:
        raise Bad(f"it sets the state of {shown(target)}")


# NumPy


def _is_ndarray(value: Any) -> bool:
    return isinstance(value, Global) and (value.module, value.name) == ("numpy", "ndarray")


def _empty_array(_: Global, arguments: tuple[Any, ...]) -> NDArray[Any]:
    if len(arguments) != 3 or not _is_ndarray(arguments[0]) or _shape(arguments[1]) != (0,):
        raise Bad("an array begins in an unknown way")
    return np.ndarray((0,), np.int8)


def _fill(target: NDArray[Any], state: Any) -> None:
    if not isinstance(state, tuple) or len(state) not in (4, 5):
        raise Bad("the state of an array is not (version, shape, dtype, order, data)")
    shape, dtype, fortran, content = state[-4:]
    dimensions = _shape(shape)
    count = math.prod(dimensions)
    set_state: Callable[[tuple[Any, ...]], None] = target.__setstate__
    if not isinstance(dtype, Dtype) or not isinstance(fortran, bool | int):
        raise Bad("an array has no dtype")
    if dtype.code == "O":
        if not isinstance(content, list) or len(content) != count:
            raise Bad(f"an array of {count} objects has another number of values")
        if any(isinstance(item, np.ndarray) and (item.dtype.hasobject or not item.size) for item in content):
            # Freeing them recurses without a limit. An empty one may still become one.
            raise Bad("an array of objects holds another one, or an empty array")
        set_state((1, dimensions, np.dtype(object), bool(fortran), content))
        return
    raw = _bytes(content)
    if len(raw) != count * dtype.numpy().itemsize:
        raise Bad(f"an array of shape {dimensions} and dtype {dtype.code} has {len(raw)} bytes")
    set_state((1, dimensions, dtype.numpy(), bool(fortran), raw))


def _shape(shape: Any) -> tuple[int, ...]:
    if isinstance(shape, tuple) and len(shape) <= 16 and all(type(n) is int and n >= 0 for n in shape):
        if math.prod(max(n, 1) for n in shape) <= _MAX_ITEMS:
            return shape
        raise Bad(f"an array of shape {shape} is too large")
    raise Bad("an array's shape is not a tuple of integers >= 0")


def _bytes(content: Any) -> bytes:
    if isinstance(content, str):  # a string of Python 2, read as Latin-1
        try:
            return content.encode("latin-1")
        except UnicodeEncodeError:
            raise Bad("the bytes of an array are a text") from None
    if not isinstance(content, bytes):
        raise Bad(f"the bytes of an array are {shown(content)}")
    return content


def _dtype(_: Global, arguments: tuple[Any, ...]) -> Dtype:
    code = arguments[0] if arguments else None
    if isinstance(code, bytes):
        code = code.decode("latin-1")
    if isinstance(code, str):
        if code in ("O", "O8", "|O", "O4"):
            return Dtype("O")
        if _NUMBER.fullmatch(code) or _TEXT.fullmatch(code):
            return Dtype(code.lstrip("|<>="), code[0] if code[0] in "<>" else "=")
    raise Bad(f"the dtype {ascii(code)[:40]} is none of bool, integers, floats, complex, text, object")


def _set_order(target: Dtype, state: Any) -> None:
    if not isinstance(state, tuple) or len(state) < 5 or not isinstance(state[1], str | bytes):
        raise Bad("the state of a dtype is malformed")
    if any(part is not None for part in state[2:5]):
        raise Bad("structured dtypes are not accepted")
    order = state[1] if isinstance(state[1], str) else state[1].decode("latin-1")
    if order not in ("<", ">", "|", "="):
        raise Bad(f"the byte order {ascii(order)[:20]} is unknown")
    target.order = order
    target.built = True


def _scalar(_: Global, arguments: tuple[Any, ...]) -> Any:
    if len(arguments) != 2 or not isinstance(arguments[0], Dtype) or arguments[0].code == "O":
        raise Bad("a NumPy scalar is malformed")
    dtype, raw = arguments[0].numpy(), _bytes(arguments[1])
    if dtype.itemsize == 0 or len(raw) != dtype.itemsize:
        raise Bad(f"a NumPy scalar of dtype {dtype} has {len(raw)} bytes")
    return np.frombuffer(raw, dtype)[0]


def _from_buffer(_: Global, arguments: tuple[Any, ...]) -> NDArray[Any]:
    """numpy._core.numeric._frombuffer(buffer, dtype, shape, order), which protocol 5 writes."""
    if len(arguments) != 4 or not isinstance(arguments[1], Dtype) or not isinstance(arguments[3], str):
        raise Bad("an array of a buffer is malformed")
    target: NDArray[Any] = np.ndarray((0,), np.int8)
    if arguments[1].code == "O":
        raise Bad("an array of objects cannot lie in a buffer")
    _fill(target, (1, arguments[2], arguments[1], arguments[3] == "F", arguments[0]))
    return target


# Python


def _encode(_: Global, arguments: tuple[Any, ...]) -> bytes:
    """_codecs.encode, by which Python 3 writes bytes in protocols 0 to 2."""
    if len(arguments) != 2 or not all(isinstance(a, str) for a in arguments) or arguments[1] != "latin1":
        raise Bad("_codecs.encode is accepted for Latin-1 texts only")
    return _bytes(arguments[0])


def _no_bytes(_: Global, arguments: tuple[Any, ...]) -> bytes:
    """bytes(), by which protocols 0 to 2 write the empty ones."""
    if arguments:
        raise Bad("bytes are made of something")
    return b""


def _ordered(_: Global, arguments: tuple[Any, ...]) -> dict[Any, Any]:
    from hoirt.safe_pickle_machine import pairs

    if not arguments:
        return {}
    items = arguments[0]
    if len(arguments) != 1 or not isinstance(items, list) or not all(_is_pair(item) for item in items):
        raise Bad("an OrderedDict is not made of pairs")
    return pairs([part for item in items for part in item])


def _is_pair(item: Any) -> bool:
    return isinstance(item, (list, tuple)) and len(item) == 2


def _set(kind: Global, arguments: tuple[Any, ...]) -> Any:
    from hoirt.safe_pickle_machine import key

    items = arguments[0] if arguments else []
    if len(arguments) > 1 or not isinstance(items, (list, tuple)):
        raise Bad("a set is not made of a list")
    members = {key(item) for item in items}
    return frozenset(members) if kind.name == "frozenset" else members


def _reconstructor(_: Global, arguments: tuple[Any, ...]) -> Inert:
    """copyreg._reconstructor(class, object, None): an instance of an inert class."""
    if len(arguments) != 3 or not isinstance(arguments[1], Global) or arguments[1].name != "object":
        raise Bad("an object begins in an unknown way")
    made = construct(arguments[0], ())
    if not isinstance(made, Inert):
        raise Bad(f"{shown(arguments[0])} is not a class of records")
    return made


def _inert(kind: Global, arguments: tuple[Any, ...]) -> Inert:
    return Inert(f"{kind.module}.{kind.name}", arguments)


def _torch(kind: Global, arguments: tuple[Any, ...]) -> Any:
    from hoirt.safe_pickle_torch import build

    return build(kind.name, arguments)


def _marker(kind: Global, _: tuple[Any, ...]) -> Any:
    raise Bad(f"it calls {shown(kind)}")


Builder = Callable[[Global, tuple[Any, ...]], Any]

BUILDERS: dict[tuple[str, str], Builder] = {
    ("numpy", "ndarray"): _marker,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): _ordered,
}
for _core in ("numpy.core", "numpy._core"):
    BUILDERS[f"{_core}.multiarray", "_reconstruct"] = _empty_array
    BUILDERS[f"{_core}.multiarray", "scalar"] = _scalar
    BUILDERS[f"{_core}.numeric", "_frombuffer"] = _from_buffer
for _builtin in ("builtins", "__builtin__"):
    BUILDERS[_builtin, "object"] = _marker
    BUILDERS[_builtin, "bytes"] = _no_bytes
    BUILDERS[_builtin, "set"] = BUILDERS[_builtin, "frozenset"] = _set
for _copyreg in ("copyreg", "copy_reg"):
    BUILDERS[_copyreg, "_reconstructor"] = _reconstructor
for _format in ("csc", "csr", "coo"):
    for _module in ("scipy.sparse", f"scipy.sparse.{_format}", f"scipy.sparse._{_format}"):
        BUILDERS[_module, f"{_format}_matrix"] = BUILDERS[_module, f"{_format}_array"] = _inert
for _module, _name in (
    ("chumpy", "Ch"),
    ("chumpy.ch", "Ch"),
    ("chumpy.ch", "MatVecMult"),
    ("chumpy.reordering", "Select"),
    ("chumpy.reordering", "Reshape"),
):
    BUILDERS[_module, _name] = _inert
for _name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"):
    BUILDERS["torch._utils", _name] = _torch
BUILDERS["torch.storage", "_load_from_bytes"] = _torch
for _name in ("Float", "Double", "Half", "Long", "Int", "Short", "Byte", "Char", "Bool"):
    BUILDERS["torch", f"{_name}Storage"] = _marker
