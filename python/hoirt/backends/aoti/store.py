"""Packages on disk: a folder in the cache per network, with a description beside every package.

A package is machine code, so opening one is running a program. Therefore only packages in hoirt's cache
folder are opened, only if nobody but this user can have written them, and only if they are what their
description says. A package inside of a pack is never looked at.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hoirt.errors import BackendError, InputError

FORMAT = 1


@dataclass(frozen=True)
class Value:
    """A port, or a value that one part gives to another; -1 in `shape`: any extent."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Part:
    """One package: its file, and the values that it takes and gives, in order."""

    file: str
    bytes: int
    sha256: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Package:
    """A compiled network for certain shapes.

    Attributes:
        key: the name of its folder, which stands for content, torch, device and precision. inputs, outputs:
            the network's ports; -1 where any extent will do. parts: one, or control, encoder and decoder.
        streams: on how many streams the parts run. twins: the inputs that it takes with half of the items, as
            both halves of a guided batch are alike in them; their shapes are those of a half. Of a package
            for any number of items they may be whole too.
    """

    key: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    parts: tuple[Part, ...]
    streams: int = 1
    twins: tuple[str, ...] = ()

    def fits(self, shapes: Mapping[str, Sequence[int]]) -> bool:
        """Whether inputs of these shapes can be run.

        Extents that are free are the same in all of them, but twins may all have half of it.
        """
        free: set[int] = set()
        halves: set[int] = set()
        for value in self.inputs:
            given = shapes[value.name]
            if len(given) != len(value.shape):
                return False
            for fixed, extent in zip(value.shape, given, strict=True):
                if fixed not in (-1, extent):
                    return False
                if fixed == -1 and extent != -1:
                    (halves if value.name in self.twins else free).add(extent)
        if len(free) > 1 or len(halves) > 1:
            return False
        return not free or not halves or free in (halves, {2 * half for half in halves})


def name_of(inputs: Sequence[Value], options: Mapping[str, Any]) -> str:
    """The name, without suffix, of the package for these shapes and options."""
    key = {"inputs": [asdict(value) for value in inputs], "options": dict(options)}
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def part_of(path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> Part:
    """The description of a package file."""
    return Part(path.name, path.stat().st_size, _sha256(path), tuple(inputs), tuple(outputs))


def write(folder: Path, name: str, package: Package) -> None:
    """Writes the description, whose presence says that the package is whole."""
    from hoirt.atomic_file import appearing

    with appearing(folder / f"{name}.json") as temporary:
        temporary.write_text(json.dumps({"format": FORMAT, **asdict(package)}, indent=1), encoding="utf-8")


def read_all(folder: Path) -> list[Package]:
    """The packages of a network: first those for certain shapes alone, then by age, newest first.

    [] if there are none.

    Raises BackendError for one that is damaged, of another network, or that somebody else may have written.
    """
    if not folder.is_dir():
        return []
    check_private(folder)
    found = sorted(folder.glob("*.json"), key=lambda path: -path.stat().st_mtime)
    packages = [_read(path, folder.name) for path in found]
    return sorted(packages, key=lambda package: any(-1 in value.shape for value in package.inputs))


def check_file(folder: Path, part: Part) -> Path:
    """The path of a package file, after its size and sha256 were compared. Raises BackendError."""
    path = folder / part.file
    check_private(path)
    if path.stat().st_size != part.bytes or _sha256(path) != part.sha256:
        raise BackendError(f"{path} is damaged; compile it again with hoirt pack compile")
    return path


def check_private(path: Path) -> None:
    """Raises BackendError unless `path` is no link, belongs to this user and only they may write it."""
    try:
        status = path.lstat()
    except OSError as error:
        raise BackendError(f"{path}: {error.strerror}; compile it again with hoirt pack compile") from error
    if stat.S_ISLNK(status.st_mode):
        raise BackendError(
            f"{path} is a link; packages are machine code and must lie in the cache themselves"
        )
    if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise BackendError(f"{path} can be written by other users, and packages are machine code; not opened")


def _read(path: Path, key: str) -> Package:
    check_private(path)
    wrong = f"{path} is damaged; delete it and compile again with hoirt pack compile"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        number = data.pop("format")
        inputs, outputs = (tuple(_value(item) for item in data.pop(side)) for side in ("inputs", "outputs"))
        parts = tuple(_part(item) for item in data.pop("parts"))
        twins = tuple(str(name) for name in data.pop("twins", ()))
        package = Package(inputs=inputs, outputs=outputs, parts=parts, twins=twins, **data)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BackendError(f"{wrong} ({error})") from error
    if number != FORMAT or not parts or not {value.name for value in inputs}.issuperset(twins):
        raise BackendError(wrong)
    if package.key != key:
        raise BackendError(
            f"{path} was made for another network, device or version: its key is {package.key!r:.80}"
        )
    return package


def _value(item: Mapping[str, Any]) -> Value:
    return Value(str(item["name"]), tuple(int(extent) for extent in item["shape"]), str(item["dtype"]))


def _part(item: Mapping[str, Any]) -> Part:
    name = str(item["file"])
    if Path(name).name != name or not name.endswith(".pt2"):
        raise InputError(f"{name!r:.80} is no name of a package")
    names = (tuple(str(entry) for entry in item[side]) for side in ("inputs", "outputs"))
    return Part(name, int(item["bytes"]), str(item["sha256"]), *names)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
