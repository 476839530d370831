"""Quantisation of a step network: integer arithmetic as NumPy does it, runtimes that agree, refusals."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hoirt
import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from blobs import scene
from hoirt.errors import HoirtError, InputError, PackError
from hoirt.imaging import save as save_picture
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export import calibration
from export.calibration import STRENGTHS, Example, State, from_folder, record_states, synthetic
from export.int8.qdq import scale_and_zero, weight_scales, weight_values
from export.int8.ranges import measure
from export.int8.step import Quantised, prediction_error, quantize_step

Array = NDArray[Any]
UNSEEN = 7_000_000  # first scene that nothing is calibrated with


@pytest.fixture(scope="module")
def states(random_pack: Path) -> list[State]:
    """What the random pack's step is given in two pictures, two steps of each."""
    return record_states(random_pack, synthetic(2, 64), steps=4, per_example=2)


@pytest.fixture(scope="module")
def unseen(random_pack: Path) -> list[State]:
    return record_states(random_pack, synthetic(1, 64, first=UNSEEN), steps=4, per_example=2)


@pytest.fixture(scope="module")
def quantised(
    random_pack: Path, states: list[State], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Quantised]:
    path = tmp_path_factory.mktemp("int8") / "step.onnx"
    return path, quantize_step(random_pack / "step.onnx", path, states)


def in_onnxruntime(path: Path, inputs: State) -> Array:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    result: Array = session.run(None, dict(inputs))[0]
    return result


def in_openvino(path: Path, inputs: State, precision: str = "fp32") -> Array:
    network = hoirt.backends.load().open(str(path), precision=precision)
    return network.run(inputs)[network.outputs[0].name]


def relative(found: Array, wanted: Array) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


# The real step


def test_the_prediction_stays_close_on_states_that_were_not_calibrated_with(
    random_pack: Path, quantised: tuple[Path, Quantised], unseen: list[State]
) -> None:
    errors = prediction_error(random_pack / "step.onnx", quantised[0], unseen, precision=("fp32", "fp32"))
    assert len(errors) == len(unseen)
    # Random weights amplify more than trained ones. The lower bound: it was not the float network that ran.
    assert 1e-3 < max(errors) < 0.15


def test_onnxruntime_and_openvino_agree(
    random_pack: Path, quantised: tuple[Path, Quantised], unseen: list[State]
) -> None:
    # A value between two integers may be rounded either way; the layers after it then see other values, and
    # round otherwise themselves. So both are wrong by as much, and differ by no more than two such errors.
    # Single layers, below, agree to the precision of float32.
    path = quantised[0]
    for state in unseen:
        exact = in_openvino(random_pack / "step.onnx", state)
        ours, theirs = in_openvino(path, state), in_onnxruntime(path, state)
        error = relative(theirs, exact)
        assert relative(ours, exact) < 1.5 * error
        assert relative(ours, theirs) < 1.5 * error


def test_layers_run_in_integers(quantised: tuple[Path, Quantised], states: list[State]) -> None:
    path, done = quantised
    model = openvino.Core().read_model(path)
    model.reshape({port: list(states[0][port.node.friendly_name].shape) for port in model.inputs})
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    kinds: Counter[str] = Counter()
    for op in compiled.get_runtime_model().get_ops():
        if op.rt_info["layerType"].astype(str) in ("Convolution", "FullyConnected"):
            kinds["int8" if op.rt_info["runtimePrecision"].astype(str) in ("u8", "i8") else "float"] += 1
    assert kinds == {"int8": len(done.layers), "float": len(done.kept)}


def test_all_but_the_sensitive_layers_are_quantised(quantised: tuple[Path, Quantised]) -> None:
    done = quantised[1]
    assert len(done.layers) > 50
    kept = ("/conv_shortcut/", "/controlnet_down_blocks", "/controlnet_mid_block/", "/conv_in/", "/conv_out/")
    assert done.kept and all(any(part in name for part in kept) for name in done.kept)
    for part in ("/ff/", "/to_q/", "/to_out", "/resnets.0/conv1/", "/proj_in/", "/downsamplers"):
        assert any(part in name for name in done.layers), part
    assert not set(done.layers) & set(done.kept)


def test_ports_stay_and_the_replaced_weights_go(random_pack: Path, quantised: tuple[Path, Quantised]) -> None:
    path, done = quantised
    before, after = (onnx.load(str(file)).graph for file in (random_pack / "step.onnx", path))
    assert list(before.input) == list(after.input) and list(before.output) == list(after.output)
    kinds = Counter(tensor.data_type for tensor in after.initializer if len(tensor.dims) >= 2)
    assert kinds[TensorProto.INT8] == len(done.layers)
    assert path.with_suffix(".bin").stat().st_size < 0.4 * (random_pack / "step.bin").stat().st_size


def test_the_same_states_give_the_same_bytes(
    random_pack: Path, quantised: tuple[Path, Quantised], states: list[State], tmp_path: Path
) -> None:
    quantize_step(random_pack / "step.onnx", tmp_path / "step.onnx", states)
    for name in ("step.onnx", "step.bin"):
        assert (tmp_path / name).read_bytes() == quantised[0].with_name(name).read_bytes()


# Small networks against NumPy


def save(path: Path, nodes: list[Any], weights: dict[str, Array], shape: list[Any]) -> Path:
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(shape))],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(path))
    return path


def linear(path: Path, half: bool = False, gemm: bool = False) -> tuple[Path, Array]:
    """x (N, 24) to y (N, 32), and the matrix (24, 32)."""
    matrix = np.random.default_rng(0).standard_normal((24, 32)).astype(np.float32)
    stored = matrix.astype(np.float16) if half else matrix
    nodes = [helper.make_node("Cast", ["w"], ["m"], to=TensorProto.FLOAT)] if half else []
    if gemm:
        nodes.append(helper.make_node("Gemm", ["x", "m" if half else "w"], ["y"], "layer", transB=1))
        return save(path, nodes, {"w": np.ascontiguousarray(stored.T)}, ["N", 24]), stored.astype(np.float32)
    nodes.append(helper.make_node("MatMul", ["x", "m" if half else "w"], ["y"], "layer"))
    return save(path, nodes, {"w": stored}, ["N", 24]), stored.astype(np.float32)


def rounded(values: Array, low: float, high: float) -> NDArray[np.float64]:
    """Values as uint8 between `low` and `high` holds them: an independent form of the definition."""
    scale = np.float32((max(high, 0) - min(low, 0)) / 255)
    zero = np.rint(np.float32(-min(low, 0)) / scale)
    codes = np.clip(np.rint(values / scale) + zero, 0, 255)
    return np.asarray((codes - zero) * np.float64(scale))


@pytest.mark.parametrize("run", [in_openvino, in_onnxruntime])
@pytest.mark.parametrize("options", [{}, {"half": True}, {"gemm": True}, {"half": True, "gemm": True}])
def test_a_linear_layer_is_the_product_of_the_rounded_operands(
    tmp_path: Path, run: Callable[..., Array], options: dict[str, bool]
) -> None:
    source, matrix = linear(tmp_path / "a.onnx", **options)
    x = np.random.default_rng(1).uniform(-1, 3, (5, 24)).astype(np.float32)
    done = quantize_step(source, tmp_path / "b.onnx", [{"x": x}])
    assert done == Quantised(("layer",), ())
    scales = np.abs(matrix).max(axis=0) / 127
    wanted = rounded(x, float(x.min()), float(x.max())) @ (np.rint(matrix / scales) * scales)
    np.testing.assert_allclose(run(tmp_path / "b.onnx", {"x": x}), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("run", [in_openvino, in_onnxruntime])
def test_a_convolution_pads_with_zero(tmp_path: Path, run: Callable[..., Array]) -> None:
    import torch

    weight = np.random.default_rng(0).standard_normal((20, 16, 3, 3)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], "layer", pads=[1, 1, 1, 1])
    source = save(tmp_path / "a.onnx", [node], {"w": weight}, ["N", 16, 6, 7])
    x = np.random.default_rng(1).uniform(-0.2, 1, (2, 16, 6, 7)).astype(np.float32)
    quantize_step(source, tmp_path / "b.onnx", [{"x": x}])
    scales = (np.abs(weight).max(axis=(1, 2, 3)) / 127)[:, None, None, None]
    operands = (
        rounded(x, float(x.min()), float(x.max())),
        np.rint(weight / scales) * scales.astype(np.float64),
    )
    wanted = torch.nn.functional.conv2d(*(torch.from_numpy(v) for v in operands), padding=1).numpy()
    np.testing.assert_allclose(run(tmp_path / "b.onnx", {"x": x}), wanted, rtol=1e-4, atol=1e-4)


def test_values_and_weights_that_layers_share_are_quantised_once(tmp_path: Path) -> None:
    weight = np.eye(16, dtype=np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "first"),
        helper.make_node("MatMul", ["x", "w"], ["b"], "second"),
        helper.make_node("Add", ["a", "b"], ["y"], "sum"),
    ]
    source = save(tmp_path / "a.onnx", nodes, {"w": weight}, ["N", 16])
    quantize_step(source, tmp_path / "b.onnx", [{"x": np.ones((1, 16), np.float32)}])
    kinds = Counter(node.op_type for node in onnx.load(str(tmp_path / "b.onnx")).graph.node)
    assert kinds == {"QuantizeLinear": 1, "DequantizeLinear": 2, "MatMul": 2, "Add": 1}


def test_ranges_are_of_channels_over_all_states(tmp_path: Path) -> None:
    source, _ = linear(tmp_path / "a.onnx")
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((n, 24)).astype(np.float32) for n in (3, 5, 3)]
    found = measure(source, {"x": -1, "y": -1}, [{"x": values} for values in inputs])
    everything = np.concatenate(inputs)
    np.testing.assert_array_equal(found["x"].low, everything.min(axis=0))
    np.testing.assert_array_equal(found["x"].high, everything.max(axis=0))
    assert found["y"].low.shape == (32,)


@given(st.floats(-1e6, 1e6, width=32), st.floats(0, 1e6, width=32))
def test_uint8_reaches_the_whole_range_and_holds_zero(low: float, width: float) -> None:
    high = low + width
    scale, zero = scale_and_zero(low, high)
    assert scale > 0
    ends = (np.array([0.0, 255.0]) - zero) * scale
    assert ends[0] <= min(low, 0) + 0.51 * scale and ends[1] >= max(high, 0) - 0.51 * scale


def test_a_channel_of_zeros_stays_zero() -> None:
    weight = np.zeros((3, 4), np.float32)
    weight[1] = [0.5, -1, 0.25, 1]
    scales = weight_scales(weight, 0)
    np.testing.assert_array_equal(scales, np.float32([1, 1 / 127, 1]))
    np.testing.assert_array_equal(weight_values(weight, scales, 0)[[0, 2]], 0)


# Refusals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: [], "needs calibration states"),
        (lambda s: [{**s[0], "sample": s[0]["sample"] * np.float32(np.nan)}], "state 0: sample holds NaN"),
        (lambda s: [s[0], {**s[1], "hint": s[1]["hint"] + np.float32(np.inf)}], "state 1: hint holds NaN"),
        (lambda s: [{k: v for k, v in s[0].items() if k != "time"}], "state 0 has .* the network takes"),
        (lambda s: [{**s[0], "extra": s[0]["time"]}], "extra"),
        (lambda s: [{**s[0], "sample": s[0]["sample"][:, :3]}], "sample has the shape"),
        (lambda s: [{**s[0], "sample": s[0]["sample"][:0]}], "sample has the shape"),
        (lambda s: [{**s[0], "sample": s[0]["sample"].astype(np.float64)}], "float32 array, not float64"),
        (lambda s: [{**s[0], "sample": s[0]["sample"].tolist()}], "float32 array, not list"),
    ],
)
def test_wrong_calibration_data_is_refused_and_leaves_no_file(
    random_pack: Path, states: list[State], tmp_path: Path, change: Callable[[Any], Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        quantize_step(random_pack / "step.onnx", tmp_path / "step.onnx", change(states))
    assert not list(tmp_path.iterdir())


def test_a_quantised_network_is_not_quantised_again(
    quantised: tuple[Path, Quantised], states: list[State], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="quantised already"):
        quantize_step(quantised[0], tmp_path / "step.onnx", states)


def test_a_network_is_not_overwritten_by_its_own_twin(random_pack: Path, states: list[State]) -> None:
    with pytest.raises(InputError, match="another target"):
        quantize_step(random_pack / "step.onnx", random_pack / "step.onnx", states)


def test_a_network_without_layers_is_refused(tmp_path: Path) -> None:
    source = save(tmp_path / "a.onnx", [helper.make_node("Relu", ["x"], ["y"])], {}, ["N", 4])
    with pytest.raises(InputError, match="no layer to quantise"):
        quantize_step(source, tmp_path / "b.onnx", [{"x": np.ones((1, 4), np.float32)}])


@pytest.mark.parametrize("content", [b"", b"not a network", b"\x08\x0a\x12"])
def test_what_is_no_network_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(HoirtError):
        quantize_step(tmp_path / "a.onnx", tmp_path / "b.onnx", [{"x": np.ones((1, 4), np.float32)}])


def test_a_missing_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="not a sound ONNX file"):
        quantize_step(tmp_path / "a.onnx", tmp_path / "b.onnx", [{"x": np.ones((1, 4), np.float32)}])


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "layer")
    weight = np.full((16, 16), np.nan, np.float32)
    source = save(tmp_path / "a.onnx", [node], {"w": weight}, ["N", 16])
    with pytest.raises(HoirtError, match="NaN"):
        quantize_step(source, tmp_path / "b.onnx", [{"x": np.ones((1, 16), np.float32)}])
    assert not (tmp_path / "b.onnx").exists() and not (tmp_path / "b.bin").exists()


# Calibration states


def test_states_are_both_halves_of_guidance_at_several_times_and_strengths(
    states: list[State], unseen: list[State]
) -> None:
    assert len(states) == 4 and len(unseen) == 2
    for state in states:
        assert {values.shape[0] for values in state.values()} == {2}
        assert all(values.dtype == np.float32 and np.isfinite(values).all() for values in state.values())
        assert np.array_equal(state["sample"][0], state["sample"][1])
        assert not np.array_equal(state["context"][0], state["context"][1])
    assert [float(state["control_scale"][0]) for state in states[::2]] == pytest.approx(STRENGTHS[:2])
    assert len({state["time"].tobytes() for state in states}) == 4  # the second picture starts a step later


def test_pictures_without_hands_are_left_out(random_pack: Path) -> None:
    grey = Example(np.full((64, 64, 3), 90, np.uint8))
    with pytest.raises(InputError, match="no calibration picture shows a hand"):
        record_states(random_pack, [grey], steps=2, per_example=1)


def test_a_picture_that_cannot_be_read_is_named(random_pack: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(HoirtError, match="calibration picture 1"):
        record_states(random_pack, from_folder(tmp_path, 4), steps=2, per_example=1)


@pytest.mark.parametrize("per_example", [0, 3])
def test_more_states_than_steps_are_refused(random_pack: Path, per_example: int) -> None:
    with pytest.raises(InputError, match="per_example must be between 1 and steps"):
        record_states(random_pack, [], steps=2, per_example=per_example)


def test_recording_leaves_no_network_behind(random_pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[calibration._Recording]] = []

    class Watched(calibration._Recording):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(weakref.ref(self))

    monkeypatch.setattr(calibration, "_Recording", Watched)
    record_states(random_pack, synthetic(1, 64), steps=2, per_example=1)
    gc.collect()
    assert [models() for models in made] == [None]


def test_pictures_of_a_folder_give_states_of_one_hand(random_pack: Path, tmp_path: Path) -> None:
    save_picture(scene(hands=2), tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (state,) = record_states(random_pack, from_folder(tmp_path, 4), steps=2, per_example=1)
    assert state["sample"].shape[0] == 2


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no pictures"):
        list(from_folder(tmp_path, 2))
    with pytest.raises(InputError, match="not a folder"):
        list(from_folder(tmp_path / "nothing", 2))
