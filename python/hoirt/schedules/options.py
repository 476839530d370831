"""Reads a scheduler config into a typed dataclass; whatever is unknown or unsupported is an InputError."""

from __future__ import annotations

import difflib
import math
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

import numpy as np

from hoirt.errors import InputError

MAX_ENTRIES = 100_000

T = TypeVar("T")


@dataclass(frozen=True)
class Between:
    """low <= number <= high."""

    low: float
    high: float


@dataclass(frozen=True)
class Only:
    """Only the default is supported; `why` says what to do instead."""

    why: str


@dataclass(frozen=True)
class Note:
    """Why a value that diffusers knows is missing from a Literal."""

    why: str


def shown(value: object) -> str:
    """The value for a message, cut to a readable length."""
    try:
        return reprlib.repr(value)
    except ValueError:  # an int of more digits than Python prints
        return "a huge number"


def closest(name: str, known: Iterable[str]) -> str:
    """' (did you mean X?)', or nothing."""
    match = difflib.get_close_matches(str(name)[:80], list(known), n=1)
    return f" (did you mean {match[0]!r}?)" if match else ""


def number(label: str, value: object, low: float, high: float) -> float:
    """A float in [low, high], or InputError; bools, strings and NaN are no numbers."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(f"{label} must be a number, got {shown(value)}")
    if not low <= cast(float, value) <= high:  # compared before float(), which overflows on a huge int
        raise InputError(f"{label} must be between {low:g} and {high:g}, got {shown(value)}")
    return float(value)


def integer(label: str, value: object, low: int, high: int) -> int:
    """An int in [low, high], or InputError; True and 3.0 are no ints."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InputError(f"{label} must be a whole number, got {shown(value)}")
    if not low <= int(value) <= high:
        raise InputError(f"{label} must be between {low} and {high}, got {shown(value)}")
    return int(value)


def sequence(label: str, value: object, low: float, high: float) -> tuple[float, ...]:
    """1 .. MAX_ENTRIES numbers, all in [low, high], from a list, tuple or one-dimensional array."""
    if not isinstance(value, list | tuple | np.ndarray) or getattr(value, "ndim", 1) != 1:
        raise InputError(f"{label} must be a list of numbers, got {shown(value)}")
    if not 1 <= len(value) <= MAX_ENTRIES:
        raise InputError(f"{label} must have 1 to {MAX_ENTRIES} entries, got {len(value)}")
    return tuple(number(f"{label}[{i}]", v, low, high) for i, v in enumerate(value))


def read(kind: type[T], config: Mapping[str, Any], label: str) -> T:
    """Fill the dataclass `kind` from `config`; keys that start with '_' are bookkeeping and skipped."""
    hints = _hints(kind)  # type: ignore[arg-type]  # a class is hashable
    values: dict[str, Any] = {}
    for key, value in config.items():
        if not isinstance(key, str):
            raise InputError(f"{label}: option names are strings, got {shown(key)}")
        if key.startswith("_"):
            continue
        if key not in hints:
            hint = closest(key, hints)
            raise InputError(
                f"{label} has no option {shown(key)}{hint}; its options are {', '.join(sorted(hints))}"
            )
        values[key] = _value(f"{label}: {key}", value, hints[key])
    for field in fields(kind):  # type: ignore[arg-type]  # `kind` is a dataclass type
        for only in _marks(hints[field.name], Only):
            if field.name in values and field.default is not MISSING and values[field.name] != field.default:
                raise InputError(
                    f"{label}: {field.name}={shown(values[field.name])} is not supported, "
                    f"only {field.default!r} is; {only.why}"
                )
    return kind(**values)


@cache
def _hints(kind: type) -> Mapping[str, Any]:
    """The fields' types, which Python compiles from their source each time."""
    return get_type_hints(kind, include_extras=True)


def _marks(hint: Any, kind: type[T]) -> list[T]:
    return [m for m in getattr(hint, "__metadata__", ()) if isinstance(m, kind)]


def _value(label: str, value: object, hint: Any) -> Any:
    limits = _marks(hint, Between)
    low, high = (limits[0].low, limits[0].high) if limits else (-math.inf, math.inf)
    if get_origin(hint) is Annotated:
        notes = _marks(hint, Note)
        hint = get_args(hint)[0]
    else:
        notes = []
    if get_origin(hint) is UnionType:  # "X | None"
        if value is None:
            return None
        (hint,) = (h for h in get_args(hint) if h is not NoneType)
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        if not isinstance(value, str) or value not in choices:
            why = f"; {notes[0].why}" if notes else ""
            near = closest(value, choices) if isinstance(value, str) else ""
            listed = ", ".join(map(repr, choices))
            raise InputError(f"{label} must be one of {listed}{near}, got {shown(value)}{why}")
        return value
    if get_origin(hint) is tuple:
        return sequence(label, value, low, high)
    if hint is bool:
        if not isinstance(value, bool):
            raise InputError(f"{label} must be true or false, got {shown(value)}")
        return value
    if hint is int:
        return integer(label, value, int(low), int(high))
    if hint is float:
        return number(label, value, low, high)
    if hint is str:
        if not isinstance(value, str):
            raise InputError(f"{label} must be a string, got {shown(value)}")
        return value
    raise TypeError(f"{label}: no reader for {hint}")  # a mistake in an options class
