"""Hostile ONNX files in packs: external data that escapes, false sizes, deep nesting, ports that differ."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest
from pack_tools import refused, replace_file


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
