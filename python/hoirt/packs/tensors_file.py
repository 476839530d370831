"""Checks a safetensors file: a sane header, and every tensor exactly as large as its shape and type say."""

from __future__ import annotations

from math import prod

from hoirt.errors import PackError
from hoirt.packs.strict_json import MAX_BYTES, parse_json

BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2}
BYTES |= {"I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8}


def check_safetensors(name: str, data: bytes) -> None:
    """Raises PackError unless `data` is a sound safetensors file: no gaps, overlaps or excess."""
    if len(data) < 8:
        raise PackError(f"{name}: {len(data)} bytes are too few for a safetensors file")
    length = int.from_bytes(data[:8], "little")
    if length > min(MAX_BYTES, len(data) - 8):
        raise PackError(
            f"{name}: not a safetensors file: it claims a header of {length} bytes, "
            f"expected at most {min(MAX_BYTES, len(data) - 8)}"
        )
    header = parse_json(data[8 : 8 + length], f"{name} (header)")
    spans = []
    for tensor, child in header.items(4096):
        if tensor == "__metadata__":
            for _, text in child.items():
                text.text()
            continue
        members = child.members(["dtype", "shape", "data_offsets"])
        size = BYTES[members["dtype"].choice(BYTES)]
        shape = [extent.integer(0, 1 << 31) for extent in members["shape"].array(8)]
        offsets = [offset.integer(0, 1 << 40) for offset in members["data_offsets"].array(2)]
        if len(offsets) != 2 or offsets[1] - offsets[0] != prod(shape) * size:
            members["data_offsets"].fail(f"[begin, begin + {prod(shape) * size}], by shape and dtype")
        spans.append((offsets[0], offsets[1], tensor))
    end = 0
    for begin, stop, tensor in sorted(spans):
        if begin != end:
            raise PackError(f"{name}: the tensor {ascii(tensor)[:100]} begins at byte {begin}, not {end}")
        end = stop
    if 8 + length + end != len(data):
        raise PackError(f"{name}: {len(data)} bytes; its header accounts for {8 + length + end}")
