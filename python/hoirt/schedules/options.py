"""Reads a scheduler config into a typed dataclass; whatever is unknown or unsupported is an InputError."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from hoirt.errors import InputError

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


def closest(name: object, known: Iterable[str]) -> str:
    """' (did you mean X?)', or nothing."""
    match = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {match[0]!r}?)" if match else ""


def number(label: str, value: object, low: float, high: float) -> float:
    """A finite float in [low, high], or InputError."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(f"{label} must be a number, got {value!r}")
    if not low <= (result := float(value)) <= high:
        raise InputError(f"{label} must be between {low:g} and {high:g}, got {value}")
    return result


def integer(label: str, value: object, low: int, high: int) -> int:
    """An int in [low, high], or InputError. True and 3.0 are not ints."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InputError(f"{label} must be a whole number, got {value!r}")
    if not low <= (result := int(value)) <= high:
        raise InputError(f"{label} must be between {low} and {high}, got {value}")
    return result


def sequence(label: str, value: object, low: float, high: float) -> tuple[float, ...]:
    """At least one number, all in [low, high], from any iterable but a string or mapping."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise InputError(f"{label} must be a list of numbers, got {value!r}")
    result = tuple(number(f"{label}[{i}]", v, low, high) for i, v in enumerate(value))
    if not result:
        raise InputError(f"{label} is empty")
    return result


def read(kind: type[T], config: Mapping[str, Any], label: str) -> T:
    """Fill the dataclass `kind` from `config`; keys that start with '_' are bookkeeping and skipped."""
    hints = get_type_hints(kind, include_extras=True)
    values: dict[str, Any] = {}
    for key, value in config.items():
        if not isinstance(key, str):
            raise InputError(f"{label}: option names are strings, got {key!r}")
        if key.startswith("_"):
            continue
        if key not in hints:
            hint = closest(key, hints)
            raise InputError(
                f"{label} has no option {key!r}{hint}; its options are {', '.join(sorted(hints))}"
            )
        values[key] = _value(f"{label}: {key}", value, hints[key])
    for field in fields(kind):  # type: ignore[arg-type]  # `kind` is a dataclass type
        for only in _marks(hints[field.name], Only):
            if field.name in values and field.default is not MISSING and values[field.name] != field.default:
                raise InputError(
                    f"{label}: {field.name}={values[field.name]!r} is not supported, "
                    f"only {field.default!r} is; {only.why}"
                )
    return kind(**values)


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
            listed = ", ".join(map(repr, choices))
            raise InputError(f"{label} must be one of {listed}{closest(value, choices)}, got {value!r}{why}")
        return value
    if get_origin(hint) is tuple:
        return sequence(label, value, low, high)
    if hint is bool:
        if not isinstance(value, bool):
            raise InputError(f"{label} must be true or false, got {value!r}")
        return value
    if hint is int:
        return integer(label, value, int(low), int(high))
    if hint is float:
        return number(label, value, low, high)
    if hint is str:
        if not isinstance(value, str):
            raise InputError(f"{label} must be a string, got {value!r}")
        return value
    raise TypeError(f"{label}: no reader for {hint}")  # a mistake in an options class
