"""A small reader of the YAML that DexYCB's calibration is written in: mappings and lists of plain values.

Anchors, tags, merges, several documents and text over several lines are refused, so nothing can be built but
dict, list, str, int, float, bool and None.
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

from hoirt.errors import InputError

_MAX_BYTES, _MAX_DEPTH = 1 << 20, 16
_KEY = re.compile(
    r"('[^']*'|\"[^\"\\]*\"|[^\s'\"#\[\]{}&*!|>%@`,-][^#\[\]{},]*?|-?\w[^#\[\]{},:]*?)\s*:(?:\s+(.*))?$"
)
_INTEGER = re.compile(r"[-+]?(0|[1-9]\d{0,17})", re.ASCII)
_REAL = re.compile(r"[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?", re.ASCII)
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False, "True": True, "False": False}


def parse_yaml(data: bytes, name: str) -> Any:
    """The mapping or list in one YAML document. Raises InputError with the line."""
    if len(data) > _MAX_BYTES:
        raise InputError(f"{name}: {len(data)} bytes; at most {_MAX_BYTES} are accepted")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not UTF-8 at byte {error.start}") from None
    return _Reader(text, name).document()


class _Reader:
    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self.lines = []  # (number, indent, content)
        for number, line in enumerate(text.splitlines(), 1):
            content = re.sub(r"(^|\s)#.*$", "", line).rstrip() if "#" in line else line.rstrip()
            if content.strip() in ("", "---") or content.startswith("%"):
                continue
            if "\t" in content:
                self.fail(number, "a tab")
            self.lines.append((number, len(content) - len(content.lstrip(" ")), content.strip()))
        self.next = 0

    def fail(self, number: int, what: str) -> NoReturn:
        raise InputError(f"{self.name}: line {number}: {what} is not accepted in this kind of YAML")

    def document(self) -> Any:
        if not self.lines:
            raise InputError(f"{self.name}: is empty")
        value = self.block(self.lines[0][1], 0)
        if self.next < len(self.lines):
            self.fail(self.lines[self.next][0], "a line with this indentation")
        return value

    def block(self, indent: int, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            self.fail(self.lines[self.next][0], f"more than {_MAX_DEPTH} levels")
        return self.sequence(indent) if self.is_item() else self.mapping(indent, depth)

    def is_item(self) -> bool:
        content = self.lines[self.next][2]
        return content == "-" or content.startswith("- ")

    def sequence(self, indent: int) -> list[Any]:
        items = []
        while self.next < len(self.lines) and self.lines[self.next][1] == indent and self.is_item():
            number, _, content = self.lines[self.next]
            if _KEY.match(content[2:]) and content[2:3] not in "'\"[":
                self.fail(number, "a mapping inside of a list")
            items.append(self.value(content[2:].strip(), number))
            self.next += 1
        return items

    def mapping(self, indent: int, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        while self.next < len(self.lines) and self.lines[self.next][1] == indent and not self.is_item():
            number, _, content = self.lines[self.next]
            found = _KEY.match(content)
            if not found:
                self.fail(number, "something other than 'key: value'")
            key = str(found[1]).strip("'\"")
            if key == "<<":
                self.fail(number, "a merge")
            if key in result:
                self.fail(number, f"the key '{key[:40]}' a second time")
            self.next += 1
            if found[2]:
                result[key] = self.value(found[2].strip(), number)
                continue
            result[key] = None
            if self.next < len(self.lines):
                below = self.lines[self.next][1]
                # A list may stand at its key's own indentation.
                if below > indent or (below == indent and self.is_item()):
                    result[key] = self.block(below, depth + 1)
        return result

    def value(self, text: str, number: int) -> Any:
        if text.startswith("[") and text.endswith("]") and not set("[]{}'\"") & set(text[1:-1]):
            inner = text[1:-1].strip()
            return [self.scalar(item.strip(), number) for item in inner.split(",")] if inner else []
        return self.scalar(text, number)

    def scalar(self, text: str, number: int) -> Any:
        if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
            if text[0] in text[1:-1] or "\\" in text:
                self.fail(number, "an escape in a quoted text")
            return text[1:-1]
        if text[:1] and text[0] in "'\"[]{}&*!|>%@`?,":
            self.fail(number, f"{text[0]!r} at the beginning of a value")
        if ": " in text:
            self.fail(number, "a mapping inside of a value")
        if text == "-" or text.startswith("- "):
            self.fail(number, "a list inside of a list")
        if text in _WORDS:
            return _WORDS[text]
        if _INTEGER.fullmatch(text):
            return int(text)
        return float(text) if _REAL.fullmatch(text) else text
