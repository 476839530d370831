"""The pickle machine of safe_pickle: a stack, a memo, and one step per instruction of protocols 0 to 5."""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable, Hashable
from typing import Any, NoReturn

import numpy as np

from hoirt.safe_pickle_types import (
    BUILDERS,
    Bad,
    Dtype,
    Global,
    Storage,
    apply_state,
    construct,
    shown,
)

_MARK = object()
_MAX_INTEGER_BYTES = 128
_AMPLIFICATION = (
    8  # how many times its own size in bytes a file may have builders make of parts that it repeats
)


class Machine:
    """The pickle machine: a stack, a memo, one method per group of instructions."""

    def __init__(
        self, data: bytes, start: int, instructions: int, storage: Callable[[Any], Storage] | None
    ) -> None:
        self.data, self.position, self.at = data, start, start
        self.instructions, self.storage = instructions, storage
        self.memory = _AMPLIFICATION * max(len(data) - start, 1 << 20)
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(self.instructions):
            self.at = self.position
            code = self.take(1)
            if code == b".":
                value = self.pop()
                if self.stack:
                    raise Bad("the pickle ends with more than one value")
                return value
            step = _STEPS.get(code)
            if step is None:
                raise Bad(f"the instruction {code!r} is unknown or not accepted")
            step(self)
        raise Bad(f"more than {self.instructions} instructions")

    # Reading

    def take(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self.data):
            raise Bad("the file is truncated")
        piece = self.data[self.position : end]
        self.position = end
        return piece

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def line(self) -> bytes:
        end = self.data.find(b"\n", self.position)
        if end < 0:
            raise Bad("the file is truncated")
        piece = self.data[self.position : end]
        self.position = end + 1
        return piece

    # Stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise Bad("the stack is empty")
        return self.stack.pop()

    def top(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise Bad("the stack is empty")
        return self.stack[-1]

    def since_mark(self) -> list[Any]:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                items = self.stack[index + 1 :]
                del self.stack[index:]
                return items
        raise Bad("there is no mark on the stack")

    # Containers

    def append(self, items: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, list):
            raise Bad(f"appends to {shown(target)}; only lists grow")
        target.extend(plain(item) for item in items)

    def set_items(self, items: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, dict):
            raise Bad(f"sets items of {shown(target)}; only dictionaries have them")
        target.update(pairs(items))

    def add_items(self, items: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, set):
            raise Bad(f"adds items to {shown(target)}; only sets take them")
        target.update(key(item) for item in items)

    # Memo

    def remember(self, index: int) -> None:
        if index < 0:
            raise Bad("the memo index is negative")
        self.memo[index] = self.top()

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise Bad(f"memo {index} was never written")
        self.push(self.memo[index])

    # Globals: looked up in the table, never imported

    def find(self, module: Any, name: Any) -> Global:
        if not isinstance(module, str) or not isinstance(name, str):
            raise Bad("a global is not named by two strings")
        if (module, name) not in BUILDERS:
            named = ascii(f"{module[:80]}.{name[:80]}")
            raise Bad(f"it names {named}, which is not plain data; nothing was run")
        return Global(module, name)

    def make(self, function: Any, arguments: Any) -> None:
        for part in arguments if isinstance(arguments, tuple) else ():
            if isinstance(part, list | tuple):
                self.memory -= 64 * len(part)
        value = construct(function, arguments)
        self.charge(value)
        self.push(value)

    def charge(self, value: Any) -> None:
        """Counts what a builder has made: one memoised part could be built from again and again."""
        array = value.values if isinstance(value, Storage) else value
        if isinstance(array, np.ndarray):
            self.memory -= array.nbytes
        elif isinstance(array, bytes):
            self.memory -= len(array)
        if self.memory < 0:
            raise Bad(f"it builds more than {_AMPLIFICATION} times its own size from parts that it repeats")

    def inst(self) -> None:
        module, name = text(self.line(), "ascii"), text(self.line(), "ascii")
        self.make(self.find(module, name), tuple(self.since_mark()))

    def obj(self) -> None:
        items = self.since_mark()
        if not items:
            raise Bad("an object has no class")
        self.make(items[0], tuple(items[1:]))

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        self.make(function, arguments)

    def new_with_keywords(self) -> None:
        keywords, arguments, kind = self.pop(), self.pop(), self.pop()
        if not isinstance(keywords, dict) or keywords:
            raise Bad("an object is made with keywords; none of the accepted classes takes any")
        self.make(kind, arguments)

    def build(self) -> None:
        state, target = self.pop(), self.top()
        apply_state(target, plain(state) if not isinstance(state, tuple) else state)
        self.charge(target)

    def persistent(self, value: Any) -> None:
        if self.storage is None:
            raise Bad("persistent ids are not accepted: they name things outside of the file")
        self.push(self.storage(value))


def plain(value: Any) -> Any:
    """The value, unless it is a part of a builder's that is no data of its own."""
    if isinstance(value, Global | Dtype | Storage):
        raise Bad(f"{shown(value)} stands where data belongs")
    return value


def key(value: Any) -> Hashable:
    """A key of a dictionary or set: only what a file cannot fill a table with on purpose.

    The hash of a tuple recurses without a limit, and colliding tuples or large integers are easily made.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (str, bytes, float, bool, type(None))):
        return value
    if isinstance(value, int) and abs(value) < 2**60:
        return value
    raise Bad(f"{shown(value)} is a key; keys are strings and numbers below 2**60")


def pairs(items: list[Any]) -> dict[Hashable, Any]:
    if len(items) % 2:
        raise Bad("a dictionary has a key without a value")
    return {key(items[i]): plain(items[i + 1]) for i in range(0, len(items), 2)}


def text(raw: bytes, encoding: str) -> str:
    try:
        return raw.decode(encoding, "surrogatepass" if encoding == "utf-8" else "strict")
    except (UnicodeDecodeError, ValueError):
        raise Bad(f"a text is not {encoding}") from None


def decimal(raw: bytes, kind: Callable[[bytes], Any]) -> Any:
    if len(raw) > 400:
        raise Bad("a number has more than 400 digits")
    try:
        return kind(raw)
    except ValueError:
        raise Bad(f"{raw[:40]!r} is not a number") from None


def integer_line(raw: bytes) -> int | bool:
    # Protocol 0 writes True and False as these two.
    return {b"00": False, b"01": True}[raw] if raw in (b"00", b"01") else int(decimal(raw.rstrip(b"L"), int))


def quoted(raw: bytes) -> str:
    raw = raw.strip()
    if len(raw) < 2 or raw[:1] not in (b"'", b'"') or raw[-1:] != raw[:1]:
        raise Bad("a string has no quotes")
    try:
        return codecs.escape_decode(raw[1:-1])[0].decode("latin-1")
    except ValueError:
        raise Bad("a string has a wrong escape") from None


def long_integer(machine: Machine, length: int) -> int:
    if not 0 <= length <= _MAX_INTEGER_BYTES:
        raise Bad(f"an integer of {length} bytes; at most {_MAX_INTEGER_BYTES} are accepted")
    return int.from_bytes(machine.take(length), "little", signed=True)


def sized(layout: str, finish: Callable[[bytes], Any]) -> Callable[[Machine], None]:
    """An instruction with a length and that many bytes."""

    def step(m: Machine) -> None:
        length = m.number(layout)
        if length < 0:
            raise Bad(f"a length of {length}")
        m.push(finish(m.take(length)))

    return step


def protocol(m: Machine) -> None:
    number = m.number("<B")
    if number > 5:
        raise Bad(f"pickle protocol {number}; 0 to 5 are known")


def refuse(why: str) -> Callable[[Machine], NoReturn]:
    def step(m: Machine) -> NoReturn:
        raise Bad(why)

    return step


def _latin1(raw: bytes) -> str:
    return raw.decode("latin-1")


def _utf8(raw: bytes) -> str:
    return text(raw, "utf-8")


def _unicode_line(raw: bytes) -> str:
    return text(raw, "raw-unicode-escape")


_EXTENSION = refuse("extension codes are not accepted: they name classes that the file does not")
_BUFFER = refuse("out-of-band buffers are not accepted: they lie outside of the file")

_STEPS: dict[bytes, Callable[[Machine], Any]] = {
    b"\x80": protocol,
    b"\x95": lambda m: m.number("<Q"),  # a frame's length; the frame's bytes are read one after another
    b"(": lambda m: m.push(_MARK),
    b"0": lambda m: m.stack.pop() if m.stack and m.stack[-1] is _MARK else m.pop(),
    b"1": lambda m: m.since_mark(),
    b"2": lambda m: m.push(m.top()),
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"I": lambda m: m.push(integer_line(m.line())),
    b"J": lambda m: m.push(m.number("<i")),
    b"K": lambda m: m.push(m.number("<B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"L": lambda m: m.push(decimal(m.line().rstrip(b"L"), int)),
    b"\x8a": lambda m: m.push(long_integer(m, m.number("<B"))),
    b"\x8b": lambda m: m.push(long_integer(m, m.number("<i"))),
    b"F": lambda m: m.push(decimal(m.line(), float)),
    b"G": lambda m: m.push(m.number(">d")),
    b"S": lambda m: m.push(quoted(m.line())),
    b"T": sized("<i", _latin1),
    b"U": sized("<B", _latin1),
    b"B": sized("<I", bytes),
    b"C": sized("<B", bytes),
    b"\x8e": sized("<Q", bytes),
    b"\x96": sized("<Q", bytes),
    b"V": lambda m: m.push(_unicode_line(m.line())),
    b"X": sized("<I", _utf8),
    b"\x8c": sized("<B", _utf8),
    b"\x8d": sized("<Q", _utf8),
    b"]": lambda m: m.push([]),
    b"a": lambda m: m.append([m.pop()]),
    b"e": lambda m: m.append(m.since_mark()),
    b"l": lambda m: m.push([plain(item) for item in m.since_mark()]),
    b")": lambda m: m.push(()),
    b"t": lambda m: m.push(tuple(m.since_mark())),
    b"\x85": lambda m: m.push((m.pop(),)),
    b"\x86": lambda m: m.push((m.pop(), m.pop())[::-1]),
    b"\x87": lambda m: m.push((m.pop(), m.pop(), m.pop())[::-1]),
    b"}": lambda m: m.push({}),
    b"d": lambda m: m.push(pairs(m.since_mark())),
    b"s": lambda m: m.set_items([m.pop(), m.pop()][::-1]),
    b"u": lambda m: m.set_items(m.since_mark()),
    b"\x8f": lambda m: m.push(set()),
    b"\x90": lambda m: m.add_items(m.since_mark()),
    b"\x91": lambda m: m.push(frozenset(key(item) for item in m.since_mark())),
    b"g": lambda m: m.recall(integer_line(m.line())),
    b"h": lambda m: m.recall(m.number("<B")),
    b"j": lambda m: m.recall(m.number("<I")),
    b"p": lambda m: m.remember(integer_line(m.line())),
    b"q": lambda m: m.remember(m.number("<B")),
    b"r": lambda m: m.remember(m.number("<I")),
    b"\x94": lambda m: m.remember(len(m.memo)),
    b"c": lambda m: m.push(m.find(text(m.line(), "utf-8"), text(m.line(), "utf-8"))),
    b"\x93": lambda m: m.push(m.find(*[m.pop(), m.pop()][::-1])),
    b"i": Machine.inst,
    b"o": Machine.obj,
    b"R": Machine.reduce,
    b"\x81": Machine.reduce,  # cls.__new__(cls, *args): for the accepted classes the same
    b"\x92": Machine.new_with_keywords,
    b"b": Machine.build,
    b"P": lambda m: m.persistent(text(m.line(), "ascii")),
    b"Q": lambda m: m.persistent(m.pop()),
    b"\x82": _EXTENSION,
    b"\x83": _EXTENSION,
    b"\x84": _EXTENSION,
    b"\x97": _BUFFER,
    b"\x98": _BUFFER,
}
