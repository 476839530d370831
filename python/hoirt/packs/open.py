"""Finds packs by name or path and opens them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import InputError, PackError
from hoirt.packs import verify
from hoirt.packs.manifest import MANIFEST, Manifest, NetworkSpec, Settings
from hoirt.paths import path_of

BUNDLED = Path(__file__).parent / "data"
VARIABLE = "HOIRT_PACKS"  # folders with packs, separated as in PATH


class Pack:
    """An opened pack: its files are what its manifest says and point nowhere outside (see verify.py for the
    levels).

    manifest: all of pack.json, typed. path: the folder. verified: True once every sha256 was checked.
    """

    def __init__(self, path: Path) -> None:
        """Opens the folder `path`. Raises PackError when anything about it is not right."""
        self.path = path.absolute()
        self.manifest: Manifest = verify.read_manifest(self.path)
        self._networks = verify.check_structure(self.path, self.manifest)
        self.verified = False
        self._hashes: dict[str, tuple[tuple[int, int], str]] = {}
        if self.bytes <= verify.SMALL_PACK:
            self._check_content()

    def __repr__(self) -> str:
        return f"Pack({self.name!r}, {str(self.path)!r})"

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def settings(self) -> Settings:
        return self.manifest.settings

    @property
    def bytes(self) -> int:
        """The size of all its files."""
        return sum(entry.bytes for entry in self.manifest.files.values())

    def has(self, role: str) -> bool:
        """Whether the pack has a network for this role; detector and mesh are optional."""
        return role in self.manifest.networks

    def network_file(self, role: str) -> Path:
        """The ONNX file of a role; its weights lie beside it. Raises InputError for an unknown role."""
        return self.path / self._network(role).file

    def network_files(self, role: str) -> list[str]:
        """Names of the files of a role: the ONNX file, then those of its weights. InputError if unknown."""
        return [self._network(role).file, *sorted(self._networks[role].weights)]

    def network_hash(self, role: str) -> str:
        """sha256 over the ONNX file and its weights, for cache keys.

        Of a large pack the files are hashed now unless `verify(full=True)` did so before: a cache must not
        believe a manifest, or one pack could slip its own networks in under the name of another's.
        """
        hashes = [
            self.manifest.files[name].sha256 if self.verified else self._hash(name)
            for name in self.network_files(role)
        ]
        return hashlib.sha256("\n".join(hashes).encode()).hexdigest()

    def _hash(self, name: str) -> str:
        """sha256 of a file as it is now; read again only if its size or time changed since."""
        try:
            status = (self.path / name).lstat()
        except OSError:
            return verify.hash_file(self.path, name)  # which says what is wrong
        seen = (status.st_size, status.st_mtime_ns)
        known, value = self._hashes.get(name, (None, ""))
        if known != seen:
            value = verify.hash_file(self.path, name)
            self._hashes[name] = (seen, value)
        return value

    def tokenizer_file(self) -> Path:
        """The tokenizer.json for `tokenizers.Tokenizer.from_file`."""
        return self.path / self.manifest.tokenizer.file

    def tokenizer_2_file(self) -> Path | None:
        """The tokenizer.json of the second text encoder; None for a pack with one."""
        second = self.manifest.tokenizer_2
        return None if second is None else self.path / second.file

    def landmarker_file(self) -> Path | None:
        """mediapipe's hand_landmarker.task; None for a pack without."""
        name = self.manifest.landmarker
        return None if name is None else self.path / name

    def constants(self) -> dict[str, NDArray[Any]]:
        """The constant arrays: faces (F,3) int32, joint_regressor (21,V) float32; {} for a pack without.

        Raises PackError when they do not fit each other or the mesh network.
        """
        if self.manifest.constants is None:
            return {}
        from safetensors import SafetensorError
        from safetensors.numpy import load

        name = self.manifest.constants
        try:
            arrays = load(verify.read_file(self.path, name, verify.MAX_CONSTANTS_BYTES))
        except SafetensorError as error:
            raise PackError(f"{name}: {error}") from error
        _check_constants(name, arrays, self._vertices())
        return arrays

    def verify(self, full: bool = True) -> None:
        """Checks the pack again, `full` with the sha256 of every file. Raises PackError."""
        self._networks = verify.check_structure(self.path, self.manifest)
        if full:
            self._check_content()

    def _check_content(self) -> None:
        self.verified = False
        verify.check_content(self.path, self.manifest)
        verify.check_tokenizer(self.path, self.manifest)
        self.constants()
        self.verified = True

    def _network(self, role: str) -> NetworkSpec:
        if role not in self.manifest.networks:
            known = ", ".join(self.manifest.networks)
            raise InputError(f"the pack {self.name} has no network {role!r}; it has {known}")
        return self.manifest.networks[role]

    def _vertices(self) -> int:
        mesh = self.manifest.networks.get("mesh")
        return mesh.outputs["vertices"].shape[1] if mesh else -1


def _check_constants(name: str, arrays: Mapping[str, NDArray[Any]], vertices: int) -> None:
    for key, dtype, fixed, axis in (("faces", np.int32, 3, 1), ("joint_regressor", np.float32, 21, 0)):
        if key not in arrays:
            raise PackError(f"{name}: has no {key}; it has {ascii(sorted(arrays))[:300]}")
        array = arrays[key]
        if array.dtype != dtype or array.ndim != 2 or array.shape[axis] != fixed or not array.size:
            want = f"{np.dtype(dtype)} (F, 3)" if key == "faces" else f"{np.dtype(dtype)} (21, V)"
            raise PackError(f"{name}: {key} is {array.dtype} {array.shape}, expected {want}")
    faces, regressor = arrays["faces"], arrays["joint_regressor"]
    count = regressor.shape[1]
    if vertices not in (-1, count):
        raise PackError(f"{name}: joint_regressor is for {count} vertices, the network mesh gives {vertices}")
    if faces.min() < 0 or faces.max() >= count:
        raise PackError(
            f"{name}: faces has indices {faces.min()} to {faces.max()}, expected 0 to {count - 1}"
        )
    if not np.isfinite(regressor).all():
        raise PackError(f"{name}: joint_regressor holds values that are not finite")


def bundled() -> list[str]:
    """The names of the packs that come with hoirt."""
    return sorted(_in_folder(BUNDLED))


def _in_folder(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    return {entry.name: entry for entry in sorted(folder.iterdir()) if (entry / MANIFEST).is_file()}


def list_packs() -> dict[str, Path]:
    """All packs that have a name: the bundled ones, then those in HOIRT_PACKS; the first one wins."""
    folders = [BUNDLED, *(Path(entry) for entry in os.environ.get(VARIABLE, "").split(os.pathsep) if entry)]
    packs: dict[str, Path] = {}
    for folder in folders:
        packs = {**_in_folder(folder), **packs}
    return packs


def find_pack(path_or_name: str | os.PathLike[str]) -> Path:
    """The folder of a pack: a bundled name, a name in a folder of HOIRT_PACKS, or a path (a Path is never a
    name).

    Raises InputError when there is nothing of that name.
    """
    if not isinstance(path_or_name, str | os.PathLike):
        raise InputError(f"a pack is a name or a path, got {type(path_or_name).__name__}")
    text = os.fspath(path_or_name)
    if not isinstance(text, str) or not text or "\0" in text:
        raise InputError(f"a pack is a name or a path, got {text!r}")
    if isinstance(path_or_name, str) and text in (packs := list_packs()):
        return packs[text]
    try:
        path = path_of(Path(text).expanduser(), "the pack")
    except RuntimeError as error:  # there is no such user
        raise InputError(f"the pack {text!r} cannot be used: {error}") from error
    if path.exists():
        return path
    names = ", ".join(list_packs()) or "none"
    raise InputError(
        f"no pack {text!r}: known names are {names} (bundled, and in the folders of {VARIABLE}), "
        f"and there is no such path"
    )


def open_pack(path_or_name: str | os.PathLike[str]) -> Pack:
    """Opens a pack by name or path. Raises InputError if there is none, PackError if it is not sound."""
    return Pack(find_pack(path_or_name))
