"""Reads JSON that nobody vouches for: bounded, no duplicate keys, no NaN, errors with the exact place."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator
from typing import Any, NoReturn

from hoirt.errors import PackError

MAX_BYTES = 1 << 20
MAX_DEPTH = 8  # of the free-form parts; the others are as deep as their schema
MAX_TEXT = 4096
INTEGER_DIGITS = 18  # every such number fits into int64


def parse_json(data: bytes, document: str, limit: int = MAX_BYTES) -> Json:
    """Parses one JSON document; `document` is its name in error messages. Raises PackError."""
    if len(data) > limit:
        raise PackError(f"{document}: {len(data)} bytes; at most {limit} are accepted")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(items)
        if len(result) != len(items):
            keys = [key for key, _ in items]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise PackError(f"{document}: the key {_short(twice)} stands twice in one object")
        return result

    def constant(name: str) -> NoReturn:
        raise PackError(f"{document}: {name} is not a JSON number")

    def integer(digits: str) -> int:
        if len(digits) > INTEGER_DIGITS:
            raise PackError(f"{document}: the integer {digits[:24]}… has more than {INTEGER_DIGITS} digits")
        return int(digits)

    def real(digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            raise PackError(f"{document}: the number {digits[:24]} does not fit into a double")
        return value

    try:
        text = data.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=pairs, parse_constant=constant, parse_int=integer, parse_float=real
        )
    except UnicodeDecodeError as error:
        raise PackError(f"{document}: not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise PackError(
            f"{document}: not JSON: {error.msg} at line {error.lineno} column {error.colno}"
        ) from None
    except RecursionError:
        raise PackError(f"{document}: nested too deeply") from None
    return Json(value, document, "")


def _short(value: object) -> str:
    text = ascii(value)  # ASCII: nothing of a hostile file reaches a terminal as control characters
    return text if len(text) <= 60 else f"{text[:57]}…"


def describe(value: object) -> str:
    """What was found, for an error message: the JSON type and, where short, the value."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {value!r}"
        case str():
            return f"the string {_short(value)}"
        case list():
            return f"an array of {len(value)}"
        case _:
            return "an object"


class Json:
    """A value and where it stands; every accessor checks the type and raises PackError otherwise."""

    __slots__ = ("document", "value", "where")

    def __init__(self, value: Any, document: str, where: str) -> None:
        self.value, self.document, self.where = value, document, where

    def fail(self, expected: str) -> NoReturn:
        place = f"{self.document}: {self.where}" if self.where else self.document
        raise PackError(f"{place}: found {describe(self.value)}, expected {expected}")

    def _child(self, key: str | int, value: Any) -> Json:
        if isinstance(key, int):
            return Json(value, self.document, f"{self.where}[{key}]")
        if not re.fullmatch(r"\w{1,64}", key, re.ASCII):
            return Json(value, self.document, f"{self.where}[{_short(key)}]")
        return Json(value, self.document, f"{self.where}.{key}" if self.where else key)

    def items(self, limit: int = 256) -> Iterator[tuple[str, Json]]:
        """The members of an object whose keys are free."""
        if not isinstance(self.value, dict) or len(self.value) > limit:
            self.fail(f"an object of at most {limit} members")
        return ((key, self._child(key, value)) for key, value in self.value.items())

    def members(self, required: Collection[str], optional: Collection[str] = ()) -> dict[str, Json]:
        """The members of an object with fixed keys: none missing, none unknown."""
        found = self.some(required)
        for key in found:
            if key not in required and key not in optional:
                known = ", ".join([*required, *optional])
                where = self._child(key, None).where
                raise PackError(f"{self.document}: {where}: unknown key; known here: {known}")
        return found

    def some(self, required: Collection[str]) -> dict[str, Json]:
        """The members of an object that may have more than the required ones."""
        found = dict(self.items())
        for key in required:
            if key not in found:
                raise PackError(f"{self.document}: {self._child(key, None).where}: is missing")
        return found

    def array(self, limit: int = 64) -> list[Json]:
        if not isinstance(self.value, list) or len(self.value) > limit:
            self.fail(f"an array of at most {limit}")
        return [self._child(i, value) for i, value in enumerate(self.value)]

    def text(self, pattern: str = "", expected: str = "", limit: int = MAX_TEXT) -> str:
        """A string; `pattern` is a regular expression for the whole of it, `expected` says it in words."""
        if not isinstance(self.value, str) or len(self.value) > limit or not _is_unicode(self.value):
            self.fail(expected or f"a string of at most {limit} characters")
        if pattern and not re.fullmatch(pattern, self.value, re.ASCII):
            self.fail(expected)
        return self.value

    def choice(self, allowed: Collection[str]) -> str:
        if not isinstance(self.value, str) or self.value not in allowed:
            self.fail("one of " + ", ".join(repr(one) for one in allowed))
        return self.value

    def integer(self, low: int, high: int) -> int:
        if not isinstance(self.value, int) or isinstance(self.value, bool) or not low <= self.value <= high:
            self.fail(f"an integer from {low} to {high}")
        return self.value

    def boolean(self) -> bool:
        if not isinstance(self.value, bool):
            self.fail("true or false")
        return self.value

    def number(self, low: float, high: float) -> float:
        value = self.value
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            self.fail(f"a number from {low:g} to {high:g}")
        return float(value)

    def plain(self, depth: int = MAX_DEPTH) -> Any:
        """Any JSON value of bounded depth and size, for the parts that hoirt only hands on."""
        if depth == 0:
            self.fail(f"at most {MAX_DEPTH} levels")
        if isinstance(self.value, dict):
            for key, child in self.items():
                Json(key, self.document, child.where).text(limit=256)
                child.plain(depth - 1)
        elif isinstance(self.value, list):
            for child in self.array(4096):
                child.plain(depth - 1)
        elif isinstance(self.value, str):
            self.text()
        return self.value


def _is_unicode(text: str) -> bool:
    """False for lone surrogates, which JSON can spell but no file or terminal can hold."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)
