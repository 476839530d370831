"""OpenEXR files of 32-bit floats in uncompressed scan lines, the form that every reader knows.

Source: the OpenEXR file layout, version 2 (openexr.com/en/latest/OpenEXRFileLayout.html).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import InputError

_MAGIC, _VERSION, _FLOAT = 20000630, 2, 2


def exr_bytes(channels: Mapping[str, NDArray[Any]]) -> bytes:
    """The file for `channels`, name to (H, W) float array; names such as "Z", or "R", "G", "B".

    Raises:
        InputError: no channel, shapes that differ, a name that is empty, not ASCII or longer than 31.
    """
    names = sorted(channels)  # the format asks for this order
    shapes = {np.shape(channels[name]) for name in names}
    if len(shapes) != 1 or len(shape := shapes.pop()) != 2 or 0 in shape:
        raise InputError("an EXR file needs one or more channels, all of one shape (H, W)")
    if not all(name and name.isascii() and name.isprintable() and len(name) <= 31 for name in names):
        raise InputError("channel names must be 1..31 printable ASCII characters")
    height, width = shape
    listed = b"".join(_text(name) + struct.pack("<iB3xii", _FLOAT, 0, 1, 1) for name in names) + b"\0"
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    attributes = (
        ("channels", "chlist", listed),
        ("compression", "compression", b"\0"),
        ("dataWindow", "box2i", window),
        ("displayWindow", "box2i", window),
        ("lineOrder", "lineOrder", b"\0"),
        ("pixelAspectRatio", "float", struct.pack("<f", 1.0)),
        ("screenWindowCenter", "v2f", struct.pack("<2f", 0.0, 0.0)),
        ("screenWindowWidth", "float", struct.pack("<f", 1.0)),
    )
    header = struct.pack("<ii", _MAGIC, _VERSION)
    for name, kind, value in attributes:
        header += _text(name) + _text(kind) + struct.pack("<i", len(value)) + value
    header += b"\0"
    # A scan line: its number, the size of its pixels in bytes, then its channels one after the other.
    line = np.dtype([("y", "<i4"), ("size", "<i4"), ("pixels", "<f4", (len(names), width))])
    lines = np.zeros(height, line)
    lines["y"] = np.arange(height)
    lines["size"] = 4 * width * len(names)
    lines["pixels"] = np.stack([np.asarray(channels[name], np.float32) for name in names], axis=1)
    first = len(header) + 8 * height
    offsets = (first + np.arange(height, dtype=np.uint64) * np.uint64(line.itemsize)).astype("<u8")
    return bytes(header + offsets.tobytes() + lines.tobytes())


def _text(name: str) -> bytes:
    return name.encode("ascii") + b"\0"
