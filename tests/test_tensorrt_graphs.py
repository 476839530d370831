"""Graphs of packs for TensorRT: every node is on its parser's list in every precision; values stay close."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from build_tools import Built
from hoirt import BackendError
from hoirt.backends.tensorrt.precision import convert
from hoirt.backends.tensorrt.profiles import Profile, default_profiles, open_shapes
from hoirt.backends.tensorrt.symmetric import make_symmetric
from hoirt.packs import open_pack
from onnx_models import reference, save, value

from export.int8.pack import Report

LIST: dict[str, Any] = json.loads(Path(__file__).with_name("tensorrt_operators.json").read_text())
TYPES = {name: set(types.split()) for types, names in LIST["types"].items() for name in names}
WORDS = {1: "FP32", 10: "FP16", 16: "BF16", 6: "INT32", 7: "INT64", 9: "BOOL", 3: "INT8", 2: "UINT8"}
BUNDLED = open_pack("handrefiner-tiny")
EXTENTS = {"N": 2, "S": 3, "h": 16, "w": 24, "h2": 8, "w2": 12, "h4": 4, "w4": 6, "H": 64, "W": 96}


@pytest.fixture(scope="module")
def other_packs(random_pack: Path, int8_report: Report, sdxl: Built) -> dict[str, Path]:
    """Packs that the exporter makes: SD1.5, int8, SDXL."""
    return {"sd15": random_pack, "int8": int8_report.path, "sdxl": sdxl.path}


def problems(path: Path) -> Iterator[str]:
    """What the list does not allow in an ONNX file, with the node."""
    model = onnx.load(str(path))
    assert LIST["opsets"][0] <= model.opset_import[0].version <= LIST["opsets"][1]
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    kinds = {
        v.name: v.type.tensor_type.elem_type
        for v in (*inferred.input, *inferred.value_info, *inferred.output)
    }
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    kinds |= {t.name: t.data_type for t in model.graph.initializer}
    for node in model.graph.node:
        label = f"{node.op_type} {node.name}"
        if node.op_type not in TYPES or node.domain not in ("", "ai.onnx"):
            yield f"{label}: not on the list"
            continue
        schema = onnx.defs.get_schema(node.op_type, model.opset_import[0].version, "")
        at = 1 if node.op_type == "Where" else 0
        data = schema.inputs[at].type_str if schema.inputs else ""
        names = [
            name
            for i, name in enumerate(node.input)
            if name and schema.inputs[min(i, len(schema.inputs) - 1)].type_str == data
        ]
        if node.op_type == "Cast":
            names.append(node.output[0])
        for name in names:
            if WORDS[kinds[name]] not in TYPES[node.op_type]:
                yield f"{label}: {name} is {WORDS[kinds[name]]}"
        yield from (f"{label}: {wrong}" for wrong in _restrictions(node, constants))
    if uint8 := [name for name, kind in kinds.items() if kind == 2]:
        yield f"UINT8 inside of the graph: {uint8[:3]}"


def _restrictions(node: onnx.NodeProto, constants: dict[str, Any]) -> Iterator[str]:
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    kind, inputs = node.op_type, node.input
    if kind in ("QuantizeLinear", "DequantizeLinear") and len(inputs) > 2 and constants[inputs[2]].any():
        yield "zero point"
    if kind == "LayerNormalization" and any(node.output[1:]):
        yield "more than the first output"
    if kind.startswith("Reduce") and len(inputs) > 1 and inputs[1] not in constants:
        yield "axes are no initialiser"
    if kind in ("Squeeze", "Unsqueeze") and len(inputs) > 1 and inputs[1] not in constants:
        yield "axes are no constant"
    if kind == "Resize":
        if attributes.get("coordinate_transformation_mode", b"half_pixel") not in (
            b"half_pixel",
            b"pytorch_half_pixel",
            b"tf_half_pixel_for_nn",
            b"asymmetric",
            b"align_corners",
        ) or attributes.get("mode", b"nearest") not in (b"nearest", b"linear"):
            yield "mode"
        if (
            attributes.get("antialias")
            or attributes.get("keep_aspect_ratio_policy", b"stretch") != b"stretch"
        ):
            yield "antialias or policy"
    if kind.startswith("Scatter") and attributes.get("reduction", b"none") != b"none":
        yield "reduction"
    if kind == "TopK" and (
        not attributes.get("sorted", 1) or constants.get(inputs[1], np.array(0)).max() >= 3840
    ):
        yield "K or order"
    pools = kind in ("MaxPool", "AveragePool")
    if pools and (any(node.output[1:]) or any(d != 1 for d in attributes.get("dilations", []))):
        yield "indices or dilations"
    if kind in ("If", "Loop", "Scan"):
        yield "control flow, which is not looked into"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("role", BUNDLED.manifest.networks)
def test_every_node_of_the_bundled_pack_is_on_the_list(role: str, precision: Any, tmp_path: Path) -> None:
    target = tmp_path / "network.onnx"
    convert(BUNDLED.network_file(role), target, precision)
    assert list(problems(target)) == []


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("name", ["sd15", "int8", "sdxl"])
def test_every_node_of_exported_packs_is_on_the_list(
    other_packs: dict[str, Path], name: str, precision: Any, tmp_path: Path
) -> None:
    pack = open_pack(other_packs[name])
    for role in pack.manifest.networks:
        target = tmp_path / f"{role}.onnx"
        convert(pack.network_file(role), target, precision)
        assert list(problems(target)) == [], role


def test_the_check_finds_what_is_not_allowed(other_packs: dict[str, Path]) -> None:
    assert "NonZero" in TYPES and "Unique" not in TYPES and len(TYPES) > 150
    found = list(problems(open_pack(other_packs["int8"]).network_file("step")))
    assert any("zero point" in problem for problem in found)
    assert any("UINT8 inside" in problem for problem in found)


def given(path: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shapes = {
        name: tuple(EXTENTS[e] if isinstance(e, str) else e for e in shape)
        for name, shape in open_shapes(path).items()
    }
    if "input_ids" in shapes:
        return {"input_ids": rng.integers(0, 50, shapes["input_ids"])}
    return {name: rng.random(shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("role", BUNDLED.manifest.networks)
def test_float16_stays_close_and_float32_is_exact(role: str, tmp_path: Path) -> None:
    source = BUNDLED.network_file(role)
    inputs = given(source)
    expected = reference(source, inputs)
    for precision, bound in (("fp32", 0.0), ("fp16", 3e-3)):
        if role == "time" and precision == "fp16":
            continue  # never run in halves
        convert(source, tmp_path / "network.onnx", precision)  # type: ignore[arg-type]
        for found, want in zip(reference(tmp_path / "network.onnx", inputs), expected, strict=True):
            assert found.dtype == want.dtype
            assert np.linalg.norm(found - want) <= bound * np.linalg.norm(want)


def test_an_int8_step_stays_close_to_its_own_graph(other_packs: dict[str, Path], tmp_path: Path) -> None:
    """Symmetric activations are coarser than those of the pack, but not by much."""
    source = open_pack(other_packs["int8"]).network_file("step")
    exact = reference(open_pack(other_packs["sd15"]).network_file("step"), inputs := given(source))[0]
    convert(source, tmp_path / "step.onnx", "fp32")
    stored, found = reference(source, inputs)[0], reference(tmp_path / "step.onnx", inputs)[0]
    size = np.linalg.norm(exact)
    assert 0 < np.linalg.norm(stored - exact) / size < 0.3  # far from what it was calibrated with
    assert 0 < np.linalg.norm(found - exact) / size < 3 * np.linalg.norm(stored - exact) / size


def test_weights_keep_their_names_and_halves_become_halves(tmp_path: Path) -> None:
    convert(BUNDLED.network_file("step"), tmp_path / "step.onnx", "fp16")
    model = onnx.load(str(tmp_path / "step.onnx"), load_external_data=False)
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert kinds["unet.conv_in.weight"] == onnx.TensorProto.FLOAT16
    assert not any(name.endswith(".fp16") for name in kinds)
    norms = [node for node in model.graph.node if node.op_type == "LayerNormalization"]
    assert norms and all(kinds[node.input[1]] == onnx.TensorProto.FLOAT for node in norms)


def test_masks_that_no_half_holds_become_its_largest(tmp_path: Path) -> None:
    mask = np.array([-3.4e38, 0, 1e9, -np.inf], np.float32)
    path = save(
        tmp_path / "mask.onnx",
        [onnx.helper.make_node("Add", ["x", "mask"], ["y"])],
        [value("x", ["N", 4])],
        [value("y", ["N", 4])],
        {"mask": mask},
        opset=20,
    )
    convert(path, tmp_path / "half.onnx", "fp16")
    found = reference(tmp_path / "half.onnx", {"x": np.zeros((1, 4), np.float32)})[0]
    np.testing.assert_array_equal(found[0], [-65504, 0, 65504, -np.inf])


def test_graphs_that_cannot_be_converted(tmp_path: Path) -> None:
    node = onnx.helper.make_node("EyeLike", ["x"], ["y"])
    path = save(tmp_path / "eye.onnx", [node], [value("x", [2, 2])], [value("y", [2, 2])], opset=20)
    with pytest.raises(BackendError, match="EyeLike"):
        convert(path, tmp_path / "out.onnx", "fp16")


@pytest.mark.parametrize(
    ("zero", "message"), [(np.int8(3), "needs 0"), (None, "no zero point"), ("graph", "takes its scale")]
)
def test_quantised_layers_that_cannot_be_symmetric(zero: Any, message: str) -> None:
    constants = {"s": np.float32(0.1)} | ({} if zero in (None, "graph") else {"z": np.asarray(zero)})
    names = ["x", "s" if zero != "graph" else "computed"] + (["z"] if "z" in constants else [])
    node = onnx.helper.make_node("QuantizeLinear", names, ["q"], "quantise")
    graph = onnx.helper.make_graph([node], "g", [], [])
    with pytest.raises(BackendError, match=message):
        make_symmetric(onnx.helper.make_model(graph), constants)  # type: ignore[arg-type]


def test_profiles_follow_from_the_pack(tmp_path: Path) -> None:
    exact, around = default_profiles(BUNDLED.network_file("step"))
    crop = BUNDLED.settings.crop
    assert exact.pixels == (crop, crop, crop) and exact.batch == (2, 2, 2)
    assert around.pixels == (crop // 2, crop, 2 * crop)
    cells = crop // BUNDLED.settings.vae.factor
    assert around.extent("h") == (cells // 2, cells, 2 * cells)
    assert around.extent("w4") == (cells // 8, cells // 4, cells // 2)
    assert default_profiles(tmp_path / "x.onnx")[1] == Profile()
    for role in BUNDLED.manifest.networks:
        for name, shape in open_shapes(BUNDLED.network_file(role)).items():
            for profile in (exact, around):
                least, best, largest = profile.shapes(name, shape)
                assert len(shape) == len(least)
                assert all(a <= b <= c for a, b, c in zip(least, best, largest, strict=True))
    with pytest.raises(BackendError, match="'depth'"):
        around.extent("depth")
