"""What the OpenVINO backend rewrites before it compiles keeps every number: gated projections, upsampling."""

import hoirt.backends
import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_models import reference, save, value

RNG = np.random.default_rng(0)
DOUBLING = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor", "mode": "nearest"}
PLAIN = {"pads": [1, 1, 1, 1]}


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def agrees(path, inputs, rtol=1e-4, atol=1e-5):
    """The backend's outputs are those of ONNX Runtime."""
    expected = reference(path, inputs)
    network = hoirt.backends.load("openvino").open(str(path))
    found = network.run(inputs)
    for port, array in zip(network.outputs, expected, strict=True):
        np.testing.assert_allclose(found[port.name], array, rtol=rtol, atol=atol)


def upsampling(path, *, resize=DOUBLING, scales=(1, 1, 2, 2), conv=PLAIN, bias=True, half=False, kernel=3):
    """x (n,6,h,w) -> resized, convolved to 8 channels, activated."""
    weights = {"w": normal(8, 6, kernel, kernel), "s": np.array(scales, np.float32)}
    nodes = [helper.make_node("Resize", ["x", "", "s"], ["big"], **resize)]
    if half:
        weights["w"] = weights["w"].astype(np.float16)
        nodes.append(helper.make_node("Cast", ["w"], ["wide"], to=TensorProto.FLOAT))
    if bias:
        weights["b"] = normal(8)
    used = ["big", "wide" if half else "w", *(["b"] if bias else [])]
    nodes += [helper.make_node("Conv", used, ["c"], **conv), helper.make_node("Sigmoid", ["c"], ["y"])]
    return save(path, nodes, [value("x", ["n", 6, "h", "w"])], [value("y", ["n", 8, "H", "W"])], weights)


@pytest.mark.parametrize("shape", [(1, 6, 1, 1), (2, 6, 4, 5), (1, 6, 9, 16)])
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"half": True}])
def test_upsampled_convolution(tmp_path, shape, options):
    agrees(upsampling(tmp_path / "net.onnx", **options), {"x": normal(*shape)})


@pytest.mark.parametrize(
    "options",
    [
        {"scales": (1, 1, 3, 2)},
        {"scales": (1, 1, 1.5, 1.5)},
        {"resize": DOUBLING | {"mode": "linear"}},
        {"resize": DOUBLING | {"nearest_mode": "ceil"}},
        {"resize": DOUBLING | {"coordinate_transformation_mode": "half_pixel"}},
        {"conv": {"pads": [0, 0, 0, 0]}},
        {"conv": {"pads": [1, 0, 0, 1]}},
        {"conv": PLAIN | {"strides": [2, 2]}},
        {"conv": {"pads": [2, 2, 2, 2], "dilations": [2, 2]}},
        {"conv": {"pads": [2, 2, 2, 2]}, "kernel": 5},
        {"conv": {"auto_pad": "SAME_UPPER"}},
    ],
)
def test_other_resizes_and_convolutions_are_left_alone(tmp_path, options):
    agrees(upsampling(tmp_path / "net.onnx", **options), {"x": normal(2, 6, 6, 7)})


def test_an_enlarged_picture_that_is_used_twice(tmp_path):
    weights = {"w": normal(6, 6, 3, 3), "s": np.array([1, 1, 2, 2], np.float32), "b": normal(6)}
    nodes = [
        helper.make_node("Resize", ["x", "", "s"], ["big"], **DOUBLING),
        helper.make_node("Conv", ["big", "w", "b"], ["c"], **PLAIN),
        helper.make_node("Add", ["c", "big"], ["y"]),
    ]
    shape = ["n", 6, "h", "w"]
    path = save(tmp_path / "net.onnx", nodes, [value("x", shape)], [value("y", ["n", 6, "H", "W"])], weights)
    agrees(path, {"x": normal(1, 6, 3, 4)})


def gated(path, cuts, *, width=24, half=False, quantised=False, bias=True, step=1):
    """x (n,t,10) -> the product of the columns `cuts` of one projection, the last of them through GELU."""
    nodes, weights, product = [], {}, "w"
    weights["w"] = normal(10, width)
    if half:
        weights["w"] = weights["w"].astype(np.float16)
        nodes.append(helper.make_node("Cast", ["w"], ["wide"], to=TensorProto.FLOAT))
        product = "wide"
    if quantised:
        weights["w"] = RNG.integers(-127, 128, (10, width)).astype(np.int8)
        weights["scale"] = RNG.uniform(0.01, 0.02, width).astype(np.float32)
        weights["zero"] = np.zeros(width, np.int8)
        nodes.append(helper.make_node("DequantizeLinear", ["w", "scale", "zero"], ["wide"], axis=1))
        product = "wide"
    nodes.append(helper.make_node("MatMul", ["x", product], ["p"]))
    if bias:
        weights["b"] = normal(width)
        nodes.append(helper.make_node("Add", ["b", "p"], ["q"]))
    for i, (start, stop) in enumerate(cuts):
        names = [f"start{i}", f"stop{i}", "axis", "step"]
        weights |= {names[0]: np.array([start]), names[1]: np.array([stop])}
        nodes.append(helper.make_node("Slice", ["q" if bias else "p", *names], [f"part{i}"]))
    weights |= {"axis": np.array([-1]), "step": np.array([step])}
    last = f"part{len(cuts) - 1}"
    nodes += [helper.make_node("Gelu", [last], ["gate"]), helper.make_node("Mul", ["part0", "gate"], ["y"])]
    return save(path, nodes, [value("x", ["n", "t", 10])], [value("y", ["n", "t", "m"])], weights)


@pytest.mark.parametrize("options", [{}, {"half": True}, {"quantised": True}, {"bias": False}])
@pytest.mark.parametrize("shape", [(1, 1, 10), (2, 7, 10)])
def test_gated_projection(tmp_path, options, shape):
    # OpenVINO rounds the other operand of quantised weights to eight bits too.
    near = {"rtol": 0.02, "atol": 0.3} if "quantised" in options else {}
    agrees(gated(tmp_path / "net.onnx", [(0, 12), (12, 24)], **options), {"x": normal(*shape)}, **near)


@pytest.mark.parametrize(
    "cuts,step",
    [
        ([(12, 24), (0, 12)], 1),
        ([(0, 12), (12, 1 << 40)], 1),  # an end beyond the last column means the last column
        ([(3, 8), (10, 15)], 1),
        ([(0, 16), (8, 24)], 1),  # overlapping
        ([(-12, -6), (0, 6)], 1),
        ([(0, 12), (12, 24)], 2),
    ],
)
def test_other_slices_of_a_projection(tmp_path, cuts, step):
    agrees(gated(tmp_path / "net.onnx", cuts, step=step), {"x": normal(2, 3, 10)})


def test_bits_do_not_depend_on_the_number_of_threads(tmp_path):
    path, inputs = upsampling(tmp_path / "net.onnx"), {"x": normal(1, 6, 24, 24)}
    runtime = hoirt.backends.load("openvino")
    results = [runtime.open(str(path), threads=threads).run(inputs)["y"] for threads in (1, 2, 5)]
    assert all(np.array_equal(results[0], other) for other in results[1:])
