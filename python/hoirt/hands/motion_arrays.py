"""Reads .npy and .npz files that nobody vouches for: bounded, and objects only as plain data."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Collection
from tokenize import TokenError
from typing import Any

import numpy as np

from hoirt.errors import InputError
from hoirt.safe_pickle import Limits, loads

_HEADER_BYTES = 10_000


def parse_npy(data: bytes, name: str, limits: Limits | None = None) -> Any:
    """The array of a .npy file; one of objects is read by safe_pickle if `limits` are given.

    Raises:
        InputError: not a .npy file, truncated, too long, hostile, or objects where none are accepted.
    """
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise ValueError(f"version {version} is unknown")
        old = version == (1, 0)
        read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream, max_header_size=_HEADER_BYTES)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, EOFError, TokenError) as error:
        raise InputError(f"{name} is no .npy file: {error}") from None
    content = data[stream.tell() :]
    if dtype.hasobject:
        if limits is None or dtype.kind != "O":
            raise InputError(f"{name} holds Python objects; it must hold numbers")
        array = loads(content, name, limits)
        if not isinstance(array, np.ndarray) or array.shape != shape:
            raise InputError(f"{name} holds another array than its header says")
        return array
    if dtype.itemsize == 0 or any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != len(content):
        raise InputError(f"{name}: {len(content)} bytes are no array of shape {shape} and dtype {dtype}")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def parse_npz(data: bytes, names: Collection[str], name: str, limit: int = 2**26) -> dict[str, Any]:
    """The arrays `names` of a .npz file; each at most `limit` bytes, and no objects. Raises InputError."""
    found = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for key in names:
                try:
                    entry = archive.getinfo(f"{key}.npy")
                except KeyError:
                    raise InputError(f"{name}: the array '{key}' is missing") from None
                if entry.file_size > limit:
                    raise InputError(f"{name}: '{key}' has {entry.file_size} bytes; at most {limit}")
                with archive.open(entry) as file:
                    found[key] = parse_npy(file.read(limit + 1), f"{name}: {key}")
    except InputError:
        raise
    except (zipfile.BadZipFile, zlib.error, RuntimeError, OSError, EOFError, ValueError) as error:
        raise InputError(f"{name} is no .npz file: {error}") from None
    return found
