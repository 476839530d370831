"""Ways to change a pack as an attacker would: whoever makes a pack also writes its sizes and hashes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hoirt.errors import PackError
from hoirt.packs import open_pack


def copy_pack(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


def load_manifest(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "pack.json").read_text(encoding="utf-8"))
    return manifest


def edit_manifest(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    manifest = load_manifest(folder)
    edit(manifest)
    (folder / "pack.json").write_text(json.dumps(manifest), encoding="utf-8")


def replace_file(folder: Path, name: str, data: bytes) -> None:
    """Puts `data` into a file of the pack and lists it with the right size and sha256."""
    (folder / name).write_bytes(data)
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    edit_manifest(folder, lambda manifest: manifest["files"].update({name: entry}))


def refused(folder: Path, message: str) -> None:
    """Opening the pack raises a PackError that matches `message` and is fit to print."""
    with pytest.raises(PackError, match=message) as error:
        open_pack(folder)
    assert str(error.value).isprintable() and len(str(error.value)) < 1000
