"""Writes a pack folder: everything into a temporary folder that is renamed into place when it is whole."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
from hoirt.errors import InputError

DTYPES = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.INT64: "int64"}


@contextmanager
def new_pack(out: Path, *, overwrite: bool = False, key: str | None = None) -> Iterator[Path]:
    """Gives a folder that becomes `out` when the block ends well.

    key None: the folder is empty, and vanishes when the block fails. Else it is kept on a failure, beside
    `out` as `.NAME.building`, and given again to the next block of the same key; another key starts anew.
    What is in it is then what `finish_network` recorded. InputError: another process is at it.
    """
    out = Path(out)
    check_free(out, overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    if key is None:
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    else:
        folder = building_folder(out)
        folder.mkdir(exist_ok=True)
    with _alone_in(folder, out):
        if key is not None:
            _begin(folder, key)
        work = folder / "new"
        try:
            work.mkdir(exist_ok=True)
            yield work
            if out.exists():
                out.rename(folder / "old")
            work.rename(out)
        except BaseException:
            if key is None:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _alone_in(folder: Path, out: Path) -> Iterator[None]:
    """Holds the folder's lock, which the system takes back from a process that dies."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(
                f"another process is building {out}; wait until it is done, or choose another folder"
            ) from error
        yield
    finally:
        os.close(handle)


def check_free(out: Path, overwrite: bool) -> None:
    """Raises FileExistsError if there is something at `out` that must not be replaced."""
    if out.exists() and not overwrite:
        raise FileExistsError(f"{out} exists; pass overwrite=True to replace it")


def building_folder(out: Path) -> Path:
    """Where `new_pack` keeps what is finished of a pack that is not."""
    return out.parent / f".{out.name}.building"


def _begin(folder: Path, key: str) -> None:
    """Keeps what was finished under the same key, and nothing else."""
    if not (folder / key).is_file():
        for entry in folder.iterdir():  # not the folder itself: its lock is held
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        (folder / key).touch()
        return
    finished = {name for record in folder.glob("*.done") for name in json.loads(record.read_text())}
    if (folder / "new").is_dir():
        for file in (folder / "new").iterdir():
            if file.name not in finished:
                file.unlink()


def finish_network(folder: Path, role: str, hashes: Mapping[str, str]) -> None:
    """Records, in a folder of `new_pack`, that the files of a role are whole: their sha256 by name."""
    temporary = folder.parent / f".{role}.done"
    sizes = {
        name: {"sha256": value, "bytes": (folder / name).stat().st_size} for name, value in hashes.items()
    }
    temporary.write_text(json.dumps(sizes), encoding="utf-8")
    temporary.replace(folder.parent / f"{role}.done")


def finished_network(folder: Path, role: str) -> dict[str, str] | None:
    """What was recorded for a role, if the files are still there in full length."""
    record = folder.parent / f"{role}.done"
    if not record.is_file():
        return None
    files: dict[str, dict[str, Any]] = json.loads(record.read_text(encoding="utf-8"))
    for name, known in files.items():
        if not (folder / name).is_file() or (folder / name).stat().st_size != known["bytes"]:
            return None
    return {name: known["sha256"] for name, known in files.items()}


def describe_network(path: Path) -> dict[str, Any]:
    """The manifest entry of an ONNX file: its ports with dtypes and shapes, -1 for a dynamic extent."""
    graph = onnx.load(str(path), load_external_data=False).graph

    def ports(values: Any) -> dict[str, Any]:
        return {
            value.name: {
                "dtype": DTYPES[value.type.tensor_type.elem_type],
                "shape": [
                    dim.dim_value if dim.HasField("dim_value") else -1
                    for dim in value.type.tensor_type.shape.dim
                ],
            }
            for value in values
        }

    return {"file": path.name, "inputs": ports(graph.input), "outputs": ports(graph.output)}


def write_manifest(
    folder: Path, manifest: Mapping[str, Any], hashes: Mapping[str, str] | None = None
) -> None:
    """pack.json: `manifest` plus the list of all files of `folder` with sizes and sha256; no time stamps.

    hashes: the sha256 of files for which it is known, by name.
    """
    known = hashes or {}
    files = {
        file.name: {"bytes": file.stat().st_size, "sha256": known.get(file.name) or sha256(file)}
        for file in sorted(folder.iterdir())
        if file.name != "pack.json"
    }
    complete = {"schema": 1, **manifest, "files": files}
    text = json.dumps(complete, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    # Shapes on one line. A raw line break never stands inside a JSON string, so only lists of numbers match.
    text = re.sub(
        r"\[\n[-\d,\s]+\]", lambda match: "[" + ", ".join(re.findall(r"-?\d+", match[0])) + "]", text
    )
    temporary = folder / ".pack.json"
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(folder / "pack.json")


def sha256(path: Path) -> str:
    """Of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
