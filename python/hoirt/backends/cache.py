"""The cache of compiled networks: a folder of blobs that hoirt may rebuild at any time.

It is `$HOIRT_CACHE`, or else `hoirt` under `$XDG_CACHE_HOME` (`~/.cache`). Setting `HOIRT_CACHE` to an empty
text turns the cache off. The backends write the files, under temporary names that they rename; the key of
each file and its checksum are inside, so a stale or damaged one is rebuilt.
"""

import functools
import hashlib
import json
import os
import platform
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

_SUBFOLDER = "networks"
PACKAGES = "aoti-"  # how the names of folders begin that hold packages
_LIMIT = 16 * 2**30  # bytes; the least recently written blobs go first
_ROOM = 64 * 2**20  # bytes; with less than this free, not even a small network's blob can be written


def folder() -> Path | None:
    """Where compiled networks are kept, or None if the cache is turned off."""
    chosen = os.environ.get("HOIRT_CACHE")
    if chosen is not None:
        return Path(chosen).expanduser() / _SUBFOLDER if chosen else None
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a relative path is invalid and is ignored.
    root = Path(base) if base and Path(base).is_absolute() else Path("~/.cache").expanduser()
    return root / "hoirt" / _SUBFOLDER


def path_for(
    content_sha256: str,
    *,
    backend: str,
    version: str,
    precision: str = "fp32",
    shapes: Mapping[str, Sequence[int]] | None = None,
    threads: int = 0,
    device: str | None = None,
) -> str:
    """The `cache_path` for `Backend.open`, or "" when there is no cache to write to (warned about once).

    Args:
        content_sha256: hash over the network's ONNX file and its external data.
        backend: name of the backend; `version` is its version.
        precision: as given to `Backend.open`, like `shapes` and `threads`.
        device: model of the device; None means this machine's processor.
    """
    where = folder()
    if where is None or not _usable(where):
        return ""
    key = {
        "content": content_sha256,
        "backend": backend,
        "version": version,
        "device": device or _processor(),
        "precision": precision,
        "shapes": {name: list(shape) for name, shape in sorted((shapes or {}).items())},
        "threads": threads,
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return str(where / f"{backend}-{digest[:32]}")


def clear() -> int:
    """Deletes every compiled network; returns the number of files. Networks that are open go on working.

    Folders with packages of `hoirt pack compile`, which `prune` never touches, count as one each.
    """
    removed = _remove(_files(folder()))
    where = folder()
    for path in sorted(where.glob(f"{PACKAGES}*")) if where is not None else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
            removed += 1
    return removed


def prune(limit: int = _LIMIT) -> int:
    """Deletes the oldest blobs until the rest hold at most `limit` bytes; returns the number deleted.

    On a disk that fills up the limit is lower: the blobs take at most half of the room that they and what
    is free have together.
    """
    where = folder()
    if where is None:
        return 0
    blobs = sorted(_files(where), key=lambda entry: -entry[2])
    limit = min(limit, (_bytes(blobs) + _free(where)) // 2)
    excess = []
    total = 0
    for path, size, _ in blobs:
        total += size
        if total > limit:
            excess.append((path, size, 0.0))
    return _remove(excess)


def usage() -> tuple[int, int]:
    """Bytes that the blobs hold, and bytes that are free on their disk; packages do not count."""
    where = folder()
    return (0, 0) if where is None else (_bytes(_files(where)), _free(where))


def _bytes(entries: list[tuple[Path, int, float]]) -> int:
    return sum(size for _, size, _ in entries)


def _free(where: Path) -> int:
    """Of the disk that `where` is on, or would be."""
    return shutil.disk_usage(next(path for path in (where, *where.parents) if path.is_dir())).free


def _files(where: Path | None) -> list[tuple[Path, int, float]]:
    found = []
    if where is not None and where.is_dir():
        for path in where.iterdir():
            try:
                status = path.lstat()
            except FileNotFoundError:  # another process cleared it
                continue
            if not path.is_dir():
                found.append((path, status.st_size, status.st_mtime))
    return found


def _remove(entries: list[tuple[Path, int, float]]) -> int:
    removed = 0
    for path, _, _ in entries:
        try:
            path.unlink()
            removed += 1
        except FileNotFoundError:
            pass
    return removed


@functools.cache  # once per folder and process: one warning, one look at the disk
def _usable(where: Path) -> bool:
    try:
        where.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=where):
            pass
        prune()
        free = _free(where)
        if free < _ROOM:
            raise OSError(f"{free / 2**20:.0f} MiB are free on that disk")
    except OSError as error:
        warnings.warn(
            f"compiled networks are not cached, opening them stays slow: cannot write to {where} ({error}). "
            "Set HOIRT_CACHE to a writable folder, or to an empty text to turn the cache off",
            stacklevel=3,
        )
        return False
    return True


@functools.cache
def _processor() -> str:
    """Model and instruction sets: two machines with the same answer can share compiled networks."""
    lines: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            lines.setdefault(name.strip(), value.strip())
    except OSError:
        pass
    flags = hashlib.sha256(lines.get("flags", lines.get("Features", "")).encode()).hexdigest()[:8]
    return f"{platform.machine()} {lines.get('model name', platform.processor())} {os.cpu_count()} {flags}"
