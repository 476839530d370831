"""Several ONNX graphs over one file of weights: what two graphs have in common is stored once."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from pathlib import Path

import onnx

PAGE_BYTES = 1 << 20  # from this size on a tensor starts on a page, as everywhere in a pack


def share_weights(path: Path, owner: Path) -> int:
    """Makes the ONNX file `path` read those of its weights that `owner` has too from the weights of `owner`.

    Weights are the same if their bytes are, whatever the graphs call them. Those that `owner` lacks stay in
    the file beside `path` (same stem, .bin), which goes if it is not needed. Returns its size. Both lie in
    one folder and hold their weights beside them; `owner` is only read.
    """
    if path.parent != owner.parent:
        raise ValueError(f"{path} and {owner} must lie in one folder")
    model = onnx.load(str(path), load_external_data=False)
    known: dict[tuple[int, bytes], tuple[str, int]] = {}
    for tensor in _external(onnx.load(str(owner), load_external_data=False)):
        data, location, offset = _bytes(owner.parent, tensor)
        known.setdefault(_key(data), (location, offset))
    own = path.with_suffix(".bin")
    rest = own.with_suffix(".bin.new")
    size = 0
    with rest.open("wb") as file:
        for tensor in _external(model):
            data, location, _ = _bytes(path.parent, tensor)
            if location != own.name:
                continue  # shared before
            key = _key(data)
            if key not in known:
                padding = -size % (4096 if len(data) >= PAGE_BYTES else 64)
                file.write(bytes(padding))
                file.write(data)
                known[key] = (own.name, size + padding)
                size += padding + len(data)
            _point_to(tensor, *known[key], len(data))
    graph = path.with_suffix(".onnx.new")
    graph.write_bytes(model.SerializeToString(deterministic=True))
    graph.replace(path)
    rest.replace(own)
    if size == 0:
        own.unlink()
    return size


def _external(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    return (t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL)


def _bytes(folder: Path, tensor: onnx.TensorProto) -> tuple[bytes, str, int]:
    """The bytes of one weight, and where they lie."""
    told = {entry.key: entry.value for entry in tensor.external_data}
    offset, length = int(told.get("offset", "0")), int(told["length"])
    with (
        (folder / told["location"]).open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as all_,
    ):
        return all_[offset : offset + length], told["location"], offset


def _key(data: bytes) -> tuple[int, bytes]:
    return len(data), hashlib.sha256(data).digest()


def _point_to(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
