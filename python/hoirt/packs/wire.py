"""A bounded reader of the protobuf wire format; enough to look into an ONNX file without trusting it."""

from __future__ import annotations

from collections.abc import Iterator

from hoirt.errors import PackError

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
Value = int | memoryview


class Reader:
    """Splits messages of one file into fields. `budget` bounds the number of fields over the whole file."""

    def __init__(self, document: str, budget: int = 4_000_000) -> None:
        self.document = document
        self.budget = budget

    def fail(self, what: str) -> PackError:
        return PackError(f"{self.document}: not a sound ONNX file: {what}")

    def varint(self, data: memoryview, at: int) -> tuple[int, int]:
        """(value, position behind it)."""
        value = 0
        for i in range(10):
            if at + i >= len(data):
                break
            byte = data[at + i]
            value |= (byte & 0x7F) << (7 * i)
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF, at + i + 1
        raise self.fail("a number runs over the end of its message or over 10 bytes")

    def fields(self, data: memoryview) -> Iterator[tuple[int, int, Value]]:
        """(field number, wire type, value): int for varints, the bytes for everything else."""
        at = 0
        while at < len(data):
            self.budget -= 1
            if self.budget < 0:
                raise self.fail("too many fields")
            tag, at = self.varint(data, at)
            number, wire = tag >> 3, tag & 7
            if wire == VARINT:
                value, at = self.varint(data, at)
                yield number, wire, value
                continue
            if wire == LENGTH:
                length, at = self.varint(data, at)
            elif wire in (FIXED64, FIXED32):
                length = 8 if wire == FIXED64 else 4
            else:
                raise self.fail(f"field {number} has the wire type {wire}, which ONNX does not use")
            if number == 0 or length > len(data) - at:
                raise self.fail(f"field {number} claims {length} bytes, {len(data) - at} are left")
            yield number, wire, data[at : at + length]
            at += length

    def signed(self, value: Value) -> int:
        """An int64 field."""
        if not isinstance(value, int):
            raise self.fail("a number is missing where one must be")
        return value - (1 << 64) if value >> 63 else value

    def text(self, value: Value) -> str:
        if isinstance(value, int):
            raise self.fail("a string is missing where one must be")
        try:
            return str(value, "utf-8")
        except UnicodeDecodeError:
            raise self.fail("a name is not UTF-8") from None

    def integers(self, wire: int, value: Value) -> Iterator[int]:
        """A repeated int64 field, packed or not."""
        if wire == VARINT:
            yield self.signed(value)
        elif isinstance(value, memoryview) and wire == LENGTH:
            at = 0
            while at < len(value):
                self.budget -= 1
                if self.budget < 0:
                    raise self.fail("too many numbers")
                one, at = self.varint(value, at)
                yield self.signed(one)
        else:
            raise self.fail("a list of numbers has the wrong wire type")
