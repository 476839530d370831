"""Hostile and damaged packs: each is refused with a message that names the fault; nothing of it is run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.numpy
from hoirt.errors import PackError
from hoirt.packs import open_pack
from hoirt.packs.manifest import parse_manifest
from pack_tools import copy_pack, edit_manifest, load_manifest, replace_file


@pytest.fixture
def pack(random_pack: Path, tmp_path: Path) -> Path:
    """A copy to damage, in a folder with a secret beside it."""
    (tmp_path / "secret.bin").write_bytes(bytes(1 << 16))
    return copy_pack(random_pack, tmp_path / "pack")


def refused(folder: Path, message: str) -> None:
    with pytest.raises(PackError, match=message) as error:
        open_pack(folder)
    assert str(error.value).isprintable() and len(str(error.value)) < 1000


# Files


def test_changed_content(pack: Path) -> None:
    weights = bytearray((pack / "step.bin").read_bytes())
    weights[1000] ^= 0x80
    (pack / "step.bin").write_bytes(weights)
    refused(pack, r"step\.bin: damaged: its sha256 is [0-9a-f]{64}, pack\.json says")


def test_truncated_file(pack: Path) -> None:
    os.truncate(pack / "step.bin", 100)
    refused(pack, r"step\.bin: has 100 bytes, pack\.json says \d+")


def test_missing_and_extra_files(pack: Path) -> None:
    (pack / "tokenizer.json").rename(pack / "more.txt")
    refused(pack, r"more\.txt: lies in the folder, but pack\.json does not list it")
    (pack / "more.txt").unlink()
    refused(pack, r"tokenizer\.json: is missing")


def test_folder_pipe_and_link_inside(pack: Path) -> None:
    (pack / "sub").mkdir()
    refused(pack, "sub: is a folder")
    (pack / "sub").rmdir()
    os.mkfifo(pack / "pipe")
    refused(pack, "pipe: is a device, pipe or socket")
    (pack / "pipe").unlink()
    (pack / "step.bin").rename(pack.parent / "step.bin")
    (pack / "step.bin").symlink_to(pack.parent / "step.bin")
    refused(pack, r"step\.bin: is a symbolic link")


def test_manifest_as_link_or_pipe(pack: Path) -> None:
    shutil.move(pack / "pack.json", pack.parent / "pack.json")
    (pack / "pack.json").symlink_to(pack.parent / "pack.json")
    refused(pack, r"pack\.json: is a symbolic link")
    (pack / "pack.json").unlink()
    os.mkfifo(pack / "pack.json")  # opening it would wait for ever
    refused(pack, r"pack\.json: is a device, pipe or socket")


def test_not_a_pack(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file", "not a folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", r"has no pack\.json")


@pytest.mark.parametrize(
    "name",
    ["../secret.bin", "/etc/passwd", "..", ".", ".hidden", "a/b", "a\\b", "C:x", "a..b", "a\0b", "", "tail.", "ö",
     "\n", "step.bin\n", "x" * 129, "pack.json", "PACK.json", "STEP.bin", "\x1b[31m"],
)  # fmt: skip
def test_hostile_file_names(pack: Path, name: str) -> None:
    entry = {"bytes": 0, "sha256": "0" * 64}
    edit_manifest(pack, lambda manifest: manifest["files"].update({name: entry}))
    refused(pack, r"pack\.json: files")


def test_network_names_a_path(pack: Path) -> None:
    edit_manifest(pack, lambda manifest: manifest["networks"]["step"].update(file="../secret.bin"))
    refused(pack, r"networks\.step\.file: found the string '\.\./secret\.bin', expected a bare file name")


# JSON


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON.*line 1"),
        (b"[]", "found an array of 0, expected an object"),
        (b"\xff\xfe{}", "not UTF-8 at byte 0"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"{}" + b" " * (1 << 20), "at most 1048576"),
        (b"[" * 500_000, "nested too deeply|not JSON"),
        (b'{"a":' * 150_000 + b"1" + b"}" * 150_000, "nested too deeply|at most"),
        (b'{"schema": 1, "schema": 1}', "'schema' stands twice"),
        (b'{"schema": NaN}', "NaN is not a JSON number"),
        (b'{"schema": -Infinity}', "-Infinity is not a JSON number"),
        (b'{"schema": 1e999}', "does not fit into a double"),
        (b'{"schema": ' + b"9" * 100_000 + b"}", "more than 18 digits"),
        (b'{"schema": 2}', "found the number 2, expected 1"),
        (b'{"schema": "1"}', "found the string '1', expected 1"),
        (b'{"schema": 1.5}', "found the number 1.5, expected 1"),
    ],
)
def test_hostile_json(text: bytes, message: str) -> None:
    with pytest.raises(PackError, match=message) as error:
        parse_manifest(text)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [[[[[[[[[[1]]]]]]]]]]}, "at most 8 levels"),
        ({str(i): i for i in range(1000)}, "at most 256 members"),
        ({"a": [0] * 5000}, "at most 4096"),
        ({"a": "x" * 5000}, "at most 4096 characters"),
        ({"a": "\ud800"}, "a string of at most"),
        ({"\ud800": 1}, "a string of at most"),
    ],
)
def test_hostile_free_parts(random_pack: Path, value: Any, message: str) -> None:
    for key in ("provenance", "scheduler"):
        manifest = load_manifest(random_pack)
        manifest[key] = {**value, "_class_name": "X"}
        with pytest.raises(PackError, match=message):
            parse_manifest(json.dumps(manifest).encode())


# ONNX


def edit_network(pack: Path, role: str, edit: Any) -> None:
    model = onnx.load(pack / f"{role}.onnx", load_external_data=False)
    edit(model)
    replace_file(pack, f"{role}.onnx", model.SerializeToString())


def weight(model: onnx.ModelProto) -> onnx.TensorProto:
    """The first initialiser whose data lie in the .bin."""
    return next(tensor for tensor in model.graph.initializer if tensor.external_data)


def set_external(tensor: onnx.TensorProto, key: str, value: str) -> None:
    for entry in tensor.external_data:
        if entry.key == key:
            entry.value = value
            return
    tensor.external_data.add(key=key, value=value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "location",
            "../secret.bin",
            r"lies in '\.\./secret\.bin', which is not a file that pack\.json lists",
        ),
        ("location", "/etc/passwd", "'/etc/passwd', which is not a file"),
        ("location", "./hint.bin", "which is not a file"),
        ("location", "", "which is not a file"),
        ("location", "pack.json", "which is not a file"),
        ("offset", "999999999", r"ends at byte \d+ of hint\.bin, which has \d+ bytes"),
        ("offset", "-8", "has the offset '-8', expected a number of bytes"),
        ("offset", "1e3", "has the offset '1e3'"),
        ("offset", "٣", "has the offset"),
        ("offset", "9" * 30, "has the offset"),
        ("length", "4", r"needs \d+ bytes by shape and type, its external data has 4"),
        ("length", "999999999", "its external data has 999999999"),
        ("basepath", "/", "unknown external data keys"),
    ],
)
def test_external_data(pack: Path, key: str, value: str, message: str) -> None:
    edit_network(pack, "hint", lambda model: set_external(weight(model), key, value))
    refused(pack, r"hint\.onnx: not a sound ONNX file: the tensor '.*" + message)


def escape() -> onnx.TensorProto:
    tensor = onnx.TensorProto(name="escape", data_type=1, dims=[16], data_location=1)
    tensor.external_data.add(key="location", value="../secret.bin")
    return tensor


def in_a_constant(model: onnx.ModelProto) -> None:
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["escaped"], value=escape()))


def in_a_list_attribute(model: onnx.ModelProto) -> None:
    node = model.graph.node.add(op_type="Constant", output=["escaped"])
    node.attribute.add(name="list", type=9).tensors.append(escape())


def in_a_branch(model: onnx.ModelProto) -> None:
    branch = onnx.helper.make_graph([], "branch", [], [], initializer=[escape()])
    node = onnx.helper.make_node("If", ["c"], ["escaped"], then_branch=branch, else_branch=branch)
    model.graph.node.append(node)


def in_a_function(model: onnx.ModelProto) -> None:
    node = onnx.helper.make_node("Constant", [], ["escaped"], value=escape())
    function = onnx.helper.make_function(
        "own", "f", [], ["escaped"], [node], [onnx.helper.make_opsetid("", 20)]
    )
    model.functions.append(function)


def without_the_flag(model: onnx.ModelProto) -> None:
    tensor = escape()
    tensor.ClearField("data_location")
    model.graph.initializer.append(tensor)


@pytest.mark.parametrize(
    "hide",
    [in_a_constant, in_a_list_attribute, in_a_branch, in_a_function, without_the_flag],
    ids=lambda f: f.__name__,
)
def test_external_data_is_found_wherever_it_hides(pack: Path, hide: Any) -> None:
    edit_network(pack, "hint", hide)
    refused(pack, r"hint\.onnx: .*the tensor 'escape' (lies in '\.\./secret\.bin'|mixes)")


def test_split_tensor_cannot_hide_external_data(pack: Path) -> None:
    """Protobuf merges two occurrences of a singular message; the halves look harmless by themselves."""
    node = onnx.helper.make_node("Constant", [], ["escaped"], value=escape())
    attribute = node.attribute[0].SerializeToString()
    second = onnx.TensorProto(data_location=1).SerializeToString()
    node.attribute[0].ParseFromString(attribute + bytes([5 << 3 | 2, len(second)]) + second)
    merged = node.attribute[0].t
    assert merged.data_location == 1 and merged.external_data, "what a runtime would see"
    raw = attribute + bytes([5 << 3 | 2, len(second)]) + second
    node_bytes = b"\x2a" + bytes([len(raw)]) + raw  # NodeProto.attribute
    graph = b"\x0a" + bytes([len(node_bytes)]) + node_bytes  # GraphProto.node
    model = b"\x3a" + bytes([len(graph)]) + graph  # ModelProto.graph
    replace_file(pack, "hint.onnx", model)
    refused(pack, "field 5 of the attribute stands twice")


def test_two_graphs(pack: Path) -> None:
    data = (pack / "hint.onnx").read_bytes()
    replace_file(pack, "hint.onnx", data + data)
    refused(pack, "field 7 of the model stands twice")


@pytest.mark.parametrize(
    ("dims", "message"),
    [([1 << 40], "claims the shape"), ([1 << 20] * 3, "claims the shape"), ([-1, 4], "claims the shape"),
     ([1 << 30], "needs 4294967296 bytes")],
)  # fmt: skip
def test_oversized_tensor_claims(pack: Path, dims: list[int], message: str) -> None:
    def edit(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(
            onnx.TensorProto(name="huge", data_type=1, dims=dims, raw_data=b"1234")
        )

    edit_network(pack, "hint", edit)
    refused(pack, r"hint\.onnx: .*the tensor 'huge' " + message)


def test_sparse_segments_and_unknown_types(pack: Path, random_pack: Path) -> None:
    def add_sparse(model: onnx.ModelProto) -> None:
        model.graph.sparse_initializer.add().dims.append(1 << 40)

    def add_segment(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer.add(name="s", data_type=1)
        tensor.segment.end = 5

    def add_type(model: onnx.ModelProto) -> None:
        model.graph.initializer.add(name="s", data_type=99)

    for edit, message in (
        (add_sparse, "sparse init"),
        (add_segment, "segments"),
        (add_type, "element type 99"),
    ):
        shutil.copy(random_pack / "hint.onnx", pack / "hint.onnx")
        edit_network(pack, "hint", edit)
        refused(pack, message)


def test_deeply_nested_graphs(pack: Path) -> None:
    graph = b""
    for _ in range(2000):  # graph > node > attribute > graph …
        for tag in (b"\x32", b"\x2a", b"\x0a"):  # AttributeProto.g, NodeProto.attribute, GraphProto.node
            size, left = b"", len(graph)
            while left > 127:
                size, left = size + bytes([left & 127 | 128]), left >> 7
            graph = tag + size + bytes([left]) + graph
    size, left = b"", len(graph)
    while left > 127:
        size, left = size + bytes([left & 127 | 128]), left >> 7
    replace_file(pack, "hint.onnx", b"\x3a" + size + bytes([left]) + graph)
    refused(pack, "messages nested deeper than 24")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it has no graph"),
        (b"\x3a\xff\xff\xff\xff\x0f", "claims 4294967295 bytes, 0 are left"),
        (b"\xff" * 20, "over the end of its message or over 10 bytes"),
        (b"\x3b", "wire type 3"),
        (b"\x38\x01", "field 7 of the model is not a message"),
        (b"not an onnx file", "not a sound ONNX file"),
        (pickle.dumps([1, 2]), "not a sound ONNX file"),
    ],
)
def test_not_protobuf(pack: Path, data: bytes, message: str) -> None:
    replace_file(pack, "hint.onnx", data)
    refused(pack, message)


def test_ports_that_differ_from_the_manifest(pack: Path, random_pack: Path) -> None:
    def rename(model: onnx.ModelProto) -> None:
        model.graph.input[0].name = "picture"

    def reshape(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 4

    def retype(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64

    def more(model: onnx.ModelProto) -> None:
        model.graph.input.append(onnx.helper.make_tensor_value_info("more", 1, [1]))

    for edit, message in (
        (rename, r"its inputs are \['picture'\], pack\.json says \['depth'\]"),
        (reshape, r"have depth as float32 \[-1, 4, -1, -1\], pack\.json says float32 \[-1, 3"),
        (retype, "have depth as int64"),
        (more, r"its inputs are \['depth', 'more'\]"),
    ):
        shutil.copy(random_pack / "hint.onnx", pack / "hint.onnx")
        edit_network(pack, "hint", edit)
        refused(pack, message)


# Constants and tokenizer


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize(
    "name", ["constants.safetensors", "hint.onnx", "hint.bin", "tokenizer.json", "pack.json"]
)
def test_pickles_are_never_loaded(pack: Path, name: str) -> None:
    marker = pack.parent / "marker"
    bomb = pickle.dumps(Bomb(marker))
    pickle.loads(bomb)
    assert marker.exists(), "the bomb works"
    marker.unlink()
    if name == "pack.json":
        (pack / name).write_bytes(bomb)
    else:
        replace_file(pack, name, bomb)
    refused(pack, message)
    assert not marker.exists()


def header(tensors: Any, size: int = 0) -> bytes:
    text = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
    return len(text).to_bytes(8, "little") + text + bytes(size)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"1234", "too few"),
        (b"\xff" * 16, "claims a header of 18446744073709551615 bytes"),
        (header(b"[]"), "expected an object"),
        (header(b'{"a": 1, "a": 2}'), "stands twice"),
        (header({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4]}}, 4), r"a\.shape\[0\]"),
        (
            header({"a": {"dtype": "F32", "shape": [1 << 20] * 4, "data_offsets": [0, 4]}}, 4),
            "by shape and dtype",
        ),
        (header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 8]}}, 8), "by shape and dtype"),
        (header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, 8), "begins at byte 4, not 0"),
        (
            header({k: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for k in "ab"}, 4),
            "begins at byte 0",
        ),
        (header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, 9), "header accounts for"),
        (
            header({"a": {"dtype": "F128", "shape": [1], "data_offsets": [0, 16]}}, 16),
            "expected one of 'BOOL'",
        ),
        (header({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, 4), r"a\.shape\[0\]"),
    ],
)
def test_hostile_safetensors(pack: Path, data: bytes, message: str) -> None:
    replace_file(pack, "constants.safetensors", data)
    refused(pack, r"constants\.safetensors.*" + message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"faces": None}, "has no faces"),
        ({"faces": np.zeros((4, 3), np.int64)}, r"faces is int64 \(4, 3\), expected int32 \(F, 3\)"),
        ({"faces": np.zeros((4, 2), np.int32)}, "faces is"),
        ({"faces": np.full((4, 3), 42, np.int32)}, "faces has indices 42 to 42, expected 0 to 41"),
        ({"faces": np.full((4, 3), -1, np.int32)}, "faces has indices -1"),
        ({"joint_regressor": np.ones((21, 7), np.float32)}, "is for 7 vertices, the network mesh gives 42"),
        ({"joint_regressor": np.full((21, 42), np.nan, np.float32)}, "not finite"),
        ({"joint_regressor": np.ones((16, 42), np.float32)}, r"expected float32 \(21, V\)"),
    ],
)
def test_constants_that_do_not_fit(pack: Path, change: dict[str, Any], message: str) -> None:
    arrays = safetensors.numpy.load_file(pack / "constants.safetensors") | change
    kept = {key: array for key, array in arrays.items() if array is not None}
    replace_file(pack, "constants.safetensors", safetensors.numpy.save(kept))
    refused(pack, r"constants\.safetensors: .*" + message)


@pytest.mark.parametrize("data", [b"\x80\x04.", b"[1]", b'{"a": NaN}', b"[" * 100_000])
def test_tokenizer_that_is_no_json_object(pack: Path, data: bytes) -> None:
    replace_file(pack, "tokenizer.json", data)
    refused(pack, r"tokenizer\.json: ")
