"""Writes a pack folder: everything into a temporary folder that is renamed into place when it is whole."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx

DTYPES = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.INT64: "int64"}


@contextmanager
def new_pack(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Gives an empty folder that becomes `out` when the block ends well and vanishes when it fails."""
    out = Path(out)
    if out.exists() and not overwrite:
        raise FileExistsError(f"{out} exists; pass overwrite=True to replace it")
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        work = folder / "new"
        work.mkdir()
        yield work
        if out.exists():
            out.rename(folder / "old")
        work.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """pack.json: `manifest` plus the list of all files of `folder` with sizes and sha256; no time stamps."""
    files = {
        file.name: {"bytes": file.stat().st_size, "sha256": _sha256(file)}
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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
