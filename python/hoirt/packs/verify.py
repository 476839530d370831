"""Verifies a pack folder against its manifest: what lies there, how large, with which content, and what it
points to.

Two levels. STRUCTURE (always, when a pack is opened; milliseconds): the folder holds exactly the listed
regular files with the listed sizes, and every name and byte range inside the ONNX and safetensors files stays
inside the pack. This is what keeps a hostile pack from reading other files. CONTENT (sha256 of everything):
finds damage. It runs at once for packs up to SMALL_PACK bytes, where it costs less than opening one network;
for larger ones by `hoirt pack verify`, since hashing 5 GB takes seconds at every start.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from pathlib import Path

from hoirt.errors import PackError
from hoirt.packs.manifest import MANIFEST, Manifest, NetworkSpec, parse_manifest
from hoirt.packs.onnx_file import OnnxFile, inspect_onnx
from hoirt.packs.strict_json import MAX_BYTES, parse_json
from hoirt.packs.tensors_file import check_safetensors

SMALL_PACK = 64 << 20
MAX_GRAPH_BYTES = 256 << 20  # an ONNX file without its weights
MAX_CONSTANTS_BYTES = 64 << 20
MAX_TOKENIZER_BYTES = 32 << 20
MAX_LANDMARKER_BYTES = 256 << 20


def read_manifest(root: Path) -> Manifest:
    """Reads and parses pack.json of the folder `root`. Raises PackError."""
    if not root.is_dir():
        raise PackError(f"{root}: not a folder; a pack is a folder with a {MANIFEST}")
    if not os.path.lexists(root / MANIFEST):
        raise PackError(f"{root}: has no {MANIFEST}, so it is not a pack")
    return parse_manifest(read_file(root, MANIFEST, MAX_BYTES))


def check_structure(root: Path, manifest: Manifest) -> dict[str, OnnxFile]:
    """The quick level; returns what the ONNX files declare, by role. Raises PackError."""
    _check_listing(root, manifest)
    networks = {role: _check_network(root, manifest, network) for role, network in manifest.networks.items()}
    if manifest.constants is not None:
        check_safetensors(manifest.constants, read_file(root, manifest.constants, MAX_CONSTANTS_BYTES))
    for name in _tokenizers(manifest):
        if manifest.files[name].bytes > MAX_TOKENIZER_BYTES:
            raise PackError(f"{name}: larger than {MAX_TOKENIZER_BYTES} bytes")
    if manifest.landmarker is not None and manifest.files[manifest.landmarker].bytes > MAX_LANDMARKER_BYTES:
        raise PackError(f"{manifest.landmarker}: larger than {MAX_LANDMARKER_BYTES} bytes")
    return networks


def check_content(root: Path, manifest: Manifest) -> None:
    """The full level: the sha256 of every file. Raises PackError."""
    for name, entry in manifest.files.items():
        digest = hash_file(root, name)
        if digest != entry.sha256:
            raise PackError(f"{name}: damaged: its sha256 is {digest}, {MANIFEST} says {entry.sha256}")


def hash_file(root: Path, name: str) -> str:
    with _open(root, name) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_file(root: Path, name: str, limit: int) -> bytes:
    with _open(root, name) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise PackError(f"{name}: larger than {limit} bytes, the most that is accepted for it")
    return data


def _open(root: Path, name: str) -> io.BufferedReader:
    """Opens a regular file; never follows a link, never waits for a pipe."""
    flags = (
        os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    )
    try:
        _check_regular(name, os.lstat(root / name))
        descriptor = os.open(root / name, flags)
        file = os.fdopen(descriptor, "rb")
    except OSError as error:
        raise PackError(f"{name}: cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise PackError(f"{name}: not a regular file")
    return file


def _check_regular(name: str, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise PackError(
            f"{name}: is a symbolic link; packs hold their files themselves (cp -L makes such a copy)"
        )
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device, pipe or socket"
        raise PackError(f"{name}: is {kind}; a pack holds regular files only")


def _check_listing(root: Path, manifest: Manifest) -> None:
    with os.scandir(root) as entries:
        for entry in entries:
            shown = ascii(entry.name)[1:-1]
            _check_regular(shown, entry.stat(follow_symlinks=False))
            if entry.name != MANIFEST and entry.name not in manifest.files:
                raise PackError(f"{shown}: lies in the folder, but {MANIFEST} does not list it")
    for name, expected in manifest.files.items():
        try:
            size = os.lstat(root / name).st_size
        except FileNotFoundError:
            raise PackError(f"{name}: is missing; {MANIFEST} lists it") from None
        if size != expected.bytes:
            raise PackError(f"{name}: has {size} bytes, {MANIFEST} says {expected.bytes}")


def _check_network(root: Path, manifest: Manifest, network: NetworkSpec) -> OnnxFile:
    found = inspect_onnx(network.file, read_file(root, network.file, MAX_GRAPH_BYTES), manifest.files)
    for kind, real, declared in (
        ("inputs", found.inputs, network.inputs),
        ("outputs", found.outputs, network.outputs),
    ):
        if real.keys() != declared.keys():
            names = ascii(sorted(real))[:300]
            raise PackError(f"{network.file}: its {kind} are {names}, {MANIFEST} says {sorted(declared)}")
        for name, port in real.items():
            if port != declared[name]:
                raise PackError(
                    f"{network.file}: its {kind} have {name} as {port}, {MANIFEST} says {declared[name]}"
                )
    return found


def check_tokenizer(root: Path, manifest: Manifest) -> None:
    """A tokenizer file is JSON. What is in it is left to the `tokenizers` package. Raises PackError."""
    for name in _tokenizers(manifest):
        parse_json(read_file(root, name, MAX_TOKENIZER_BYTES), name, MAX_TOKENIZER_BYTES).items(64)


def _tokenizers(manifest: Manifest) -> list[str]:
    second = manifest.tokenizer_2
    return [manifest.tokenizer.file, *([] if second is None else [second.file])]
