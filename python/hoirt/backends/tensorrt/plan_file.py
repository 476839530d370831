"""Engines and timings in hoirt's cache: files that carry their key and checksum, whole or not there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hoirt.atomic_file import appearing

MAGIC = b"hoirt tensorrt 1\n"
MAX_HEADER = 1 << 16
Key = Mapping[str, Any]


def digest(key: Key) -> str:
    """Names the file of a key."""
    return hashlib.sha256(_text(key)).hexdigest()[:16]


def read(path: Path, key: Key) -> bytes | None:
    """The content, or None if there is no file, or one of another key, or a damaged one."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    header, _, content = data.removeprefix(MAGIC).partition(b"\n")
    if not data.startswith(MAGIC) or len(header) > MAX_HEADER:
        return None
    return content if header == _header(key, content) else None


def write(path: Path, key: Key, content: bytes | memoryview) -> None:
    """Writes the file in one piece. OSError is the caller's: a cache that cannot be written is no failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with appearing(path) as temporary, temporary.open("wb") as file:
        file.write(MAGIC + _header(key, content) + b"\n")
        file.write(content)


def _header(key: Key, content: bytes | memoryview) -> bytes:
    return _text({"key": dict(key), "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()})


def _text(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
