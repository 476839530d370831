"""Packs' ONNX graphs in torch: networks of every kind of pack against ONNX Runtime, rewrites, refusals."""

from __future__ import annotations

import collections
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from aoti_tools import run
from build_tools import Built
from hoirt import backends
from hoirt.errors import InputError, PackError
from hoirt.packs import open_pack
from mesh_graphormer_reference import SMALL, published_shapes, random_state
from mesh_graphormer_tools import hand_tensors
from network_inputs import inputs_of
from numpy.typing import NDArray
from onnx import helper
from onnx_models import conv_net, norm_net, reference, save, value

from export.aoti import fp8
from export.aoti.graph import Graph, Port, read_graph
from export.aoti.module import OnnxModule
from export.aoti.rewrite import rewrite
from export.aoti.shapes import Extents
from export.aoti.split import split
from export.aoti.twins import share_twins, twins_of
from export.hollow import without_memory
from export.mesh_graphormer import MeshGraphormer, Size
from export.mesh_graphormer.hrnet import HRNetSize
from export.mesh_graphormer.weights import find_weights, load_weights
from export.onnx_export import export_network

BUNDLED = open_pack("handrefiner-tiny")
Arrays = dict[str, NDArray[Any]]


@pytest.fixture(scope="module", autouse=True)
def quick() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny MeshGraphormer."""
    size = Size(HRNetSize(8, 8, (1, 2, 1), 1, 4, 48), (32, 16, 16), (24, 20), 10)
    with without_memory():
        network = MeshGraphormer(*hand_tensors(), size).eval()
    path = tmp_path_factory.mktemp("mesh") / "mesh.onnx"
    torch.save(OrderedDict(random_state(published_shapes(SMALL))), path.with_name("hand.bin"))
    load_weights(network, find_weights(path.with_name("hand.bin"), network))
    axes = {port: {0: "N"} for port in ("image", "vertices", "camera")}
    export_network(network, {"image": torch.rand(2, 3, 224, 224)}, axes, path)
    return path


def both(path: Path, precision: str = "fp32", **options: Any) -> tuple[Arrays, Arrays]:
    """What the importer's module gives, and what ONNX Runtime does."""
    network = backends.load("onnxruntime").open(str(path), threads=1)
    given = inputs_of(network, height=32, width=64)
    graph = rewrite(read_graph(path))
    module = OnnxModule(graph, precision, **options)
    with torch.no_grad():
        made = module(*[torch.from_numpy(given[port.name]) for port in graph.inputs])
    return {p.name: t.numpy() for p, t in zip(graph.outputs, made, strict=True)}, network.run(given)


def error(found: Arrays, expected: Arrays) -> float:
    """The largest difference over the largest value, of all outputs."""
    assert found.keys() == expected.keys()
    for name, wanted in expected.items():
        assert found[name].shape == wanted.shape and found[name].dtype == wanted.dtype
    return max(float(np.abs(found[n] - w).max() / np.abs(w).max()) for n, w in expected.items())


@pytest.mark.parametrize("role", sorted(BUNDLED.manifest.networks))
def test_networks_of_the_bundled_pack(role: str) -> None:
    assert error(*both(BUNDLED.network_file(role))) <= 1e-5


def test_networks_of_random_and_sdxl_packs(random_pack: Path, sdxl_inpainting: Built) -> None:
    for folder in (random_pack, sdxl_inpainting.path):
        pack = open_pack(folder)
        for role in pack.manifest.networks:
            assert error(*both(pack.network_file(role))) <= 1e-5, (folder, role)


def test_mesh_graphormer(mesh: Path) -> None:
    assert error(*both(mesh)) <= 1e-5


def test_channels_last_convolutions_give_the_same() -> None:
    path = BUNDLED.network_file("vae_decoder")
    assert error(*both(path, channels_last=True)) <= 1e-5
    module = OnnxModule(rewrite(read_graph(path)), channels_last=True)
    kernels = [w for w in module.buffers() if w.ndim == 4 and w.shape[2:] == (3, 3)]
    assert kernels and all(w.is_contiguous(memory_format=torch.channels_last) for w in kernels)


@pytest.mark.parametrize(
    ("role", "attention", "group_norm", "silu"), [("step", 12, 39, 33), ("vae_decoder", 0, 17, 17)]
)
def test_every_attention_and_norm_is_found(role: str, attention: int, group_norm: int, silu: int) -> None:
    graph = rewrite(read_graph(BUNDLED.network_file(role)))
    count = collections.Counter(node.op for node in graph.nodes)
    assert (count["Attention"], count["GroupNorm"], count["Silu"]) == (attention, group_norm, silu)
    assert count["Split"] == attention // 2  # queries, keys and values of each self-attention, as one product
    assert not {"Softmax", "InstanceNormalization", "Sigmoid"} & count.keys()


def test_mesh_graphormer_and_sdxl_attention_is_found(mesh: Path, sdxl_inpainting: Built) -> None:
    roles = ("step", "text_encoder_2", "vae_decoder")
    for path in (mesh, *(sdxl_inpainting.path / f"{role}.onnx" for role in roles)):
        count = collections.Counter(node.op for node in rewrite(read_graph(path)).nodes)
        assert count["Attention"] > 0 and not count["Softmax"], path


def test_halves_of_sdxl_have_little_in_common(sdxl_inpainting: Built) -> None:
    """Its times hold the text."""
    pack = open_pack(sdxl_inpainting.path)
    twins = twins_of(pack, "step")
    assert (
        set(twins) <= {"sample", "hint", "inpaint"} and "sample" in twins and twins_of(pack, "context") == ()
    )
    assert share_twins(rewrite(read_graph(pack.network_file("step"))), twins) is None


def test_products_of_one_value_are_joined(tmp_path: Path) -> None:
    """Those with weights of one shape, stored in whatever precision, in whatever order of the nodes."""
    rng = np.random.default_rng(0)
    sides = {"a": 5, "b": 5, "c": 5, "d": 4}
    weights = {name: rng.standard_normal((8, side)).astype(np.float16) for name, side in sides.items()}
    weights["b"] = weights["b"].astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["a"], ["a32"], to=1),
        helper.make_node("MatMul", ["x", "a32"], ["xa"]),
        helper.make_node("Relu", ["xa"], ["ra"]),
        helper.make_node("MatMul", ["x", "b"], ["xb"]),
        helper.make_node("Cast", ["c"], ["c32"], to=1),
        helper.make_node("MatMul", ["x", "c32"], ["xc"]),
        helper.make_node("Cast", ["d"], ["d32"], to=1),
        helper.make_node("MatMul", ["x", "d32"], ["xd"]),
        helper.make_node("Add", ["ra", "xb"], ["y"]),
        helper.make_node("MatMul", ["y", "square"], ["z"]),
    ]
    weights["square"] = rng.standard_normal((5, 5)).astype(np.float32)
    outputs = [value("xc", ["n", 3, 5]), value("xd", ["n", 3, 4]), value("z", ["n", 3, 5])]
    path = save(tmp_path / "net.onnx", nodes, [value("x", ["n", 3, 8])], outputs, weights)
    assert error(*both(path)) <= 1e-6
    graph = rewrite(read_graph(path))
    assert collections.Counter(node.op for node in graph.nodes)["MatMul"] == 3
    assert [len(node.outputs) for node in graph.nodes if node.op == "Split"] == [3]


def test_comparisons(tmp_path: Path) -> None:
    """As the masks of text encoders are made of, by some versions of their exporter."""
    names = ["Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"]
    nodes = [helper.make_node(name, ["x", "y"], [name]) for name in names]
    nodes += [
        helper.make_node("IsNaN", ["x"], ["nan"]),
        helper.make_node("Not", ["nan"], ["number"]),
        helper.make_node("And", ["number", "LessOrEqual"], ["both"]),
        helper.make_node("Or", ["nan", "Greater"], ["either"]),
        helper.make_node("Less", ["x", "one"], ["small"]),
    ]
    told = [*names, "nan", "number", "both", "either", "small"]
    nodes += [helper.make_node("Where", [name, "x", "y"], [f"{name}_"]) for name in told]
    outputs = [value(f"{name}_", [2, 3]) for name in told]
    weights = {"one": np.array([1], np.float32)}
    path = save(tmp_path / "net.onnx", nodes, [value("x", [2, 3]), value("y", [2, 3])], outputs, weights)
    x = np.array([[1, 2, np.nan], [0, -1, 3]], np.float32)
    y = np.array([[1, 3, 2], [-1, -1, np.nan]], np.float32)
    wanted = backends.load("onnxruntime").open(str(path), threads=1).run({"x": x, "y": y})
    graph = rewrite(read_graph(path))
    for port, found in zip(graph.outputs, OnnxModule(graph)(*map(torch.from_numpy, (x, y))), strict=True):
        np.testing.assert_array_equal(found.numpy(), wanted[port.name], err_msg=port.name)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("precision", "limit"), [("bf16", 0.05), ("fp16", 0.01), ("fp8", 0.2)])
def test_narrow_arithmetic(precision: str, limit: float, channels_last: bool) -> None:
    found, expected = both(BUNDLED.network_file("step"), precision, channels_last=channels_last)
    relative = np.linalg.norm(found["prediction"] - expected["prediction"]) / np.linalg.norm(
        expected["prediction"]
    )
    assert limit / 100 < relative <= limit
    module = OnnxModule(rewrite(read_graph(BUNDLED.network_file("step"))), precision)
    kinds = collections.Counter(str(w.dtype).removeprefix("torch.") for w in module.buffers())
    if precision == "fp8":  # 2-D weights of products, each with its scales; everything else is bfloat16
        assert kinds["float8_e4m3fn"] == kinds["float32"] == 36 and kinds["bfloat16"] > 100
    else:
        assert set(kinds) == {{"bf16": "bfloat16", "fp16": "float16"}[precision]}


def test_products_in_float8() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 64, generator=generator, dtype=torch.bfloat16) * 100
    weight = torch.randn(64, 32, generator=generator) * torch.logspace(-3, 3, 32)
    x[0, 0] = 0
    narrow, scale = fp8.quantised(weight)
    assert narrow.dtype == torch.float8_e4m3fn and narrow.stride() == (1, 64) and scale.shape == (1, 32)
    exact = x.double() @ weight.double()
    found = fp8.multiply(x, narrow, scale)
    assert found.dtype == torch.bfloat16 and found.shape == exact.shape and (found[0, 0] == 0).all()
    per_output = (found.double() - exact).norm(dim=(0, 1)) / exact.norm(dim=(0, 1))
    assert float(per_output.max()) <= 0.08  # e4m3 rounds either factor by up to 1 in 16
    assert not fp8.fits(torch.zeros(8, 32)) and not fp8.fits(torch.zeros(16, 16, 16))


def parts_of(path: Path) -> tuple[Graph, list[Graph]]:
    graph = rewrite(read_graph(path))
    return graph, split(graph)


@pytest.mark.parametrize("role", ["step", "step_keep"])
def test_parts_of_a_step_are_the_step(role: str) -> None:
    path = BUNDLED.network_file(role)
    graph, (control, encoder, decoder) = parts_of(path)
    network = backends.load("onnxruntime").open(str(path), threads=1)
    values = {k: torch.from_numpy(v) for k, v in inputs_of(network, height=32, width=32).items()}
    expected = run(graph, values)
    handed = {**run(control, values), **run(encoder, values)}
    found = run(decoder, {**values, **handed})
    for name, wanted in expected.items():
        torch.testing.assert_close(found[name], wanted, rtol=1e-5, atol=1e-5)
    # Neither of the first two waits for the other, and each does its share of the work.
    assert not {p.name for p in encoder.inputs} & {"hint", "control_scale"}
    assert not {p.name for p in control.inputs + encoder.inputs} & handed.keys()
    heavy = [sum(node.op in ("Conv", "MatMul") for node in g.nodes) for g in (control, encoder, decoder)]
    assert sum(heavy) == sum(node.op in ("Conv", "MatMul") for node in graph.nodes)
    assert min(heavy) > 0.2 * sum(heavy)


def test_parts_of_other_steps(random_pack: Path, sdxl_inpainting: Built) -> None:
    for folder in (random_pack, sdxl_inpainting.path):
        graph, parts = parts_of(folder / "step.onnx")
        made = [name for part in parts for node in part.nodes if node.op == "Conv" for name in node.outputs]
        assert len(made) == len(set(made)) == sum(node.op == "Conv" for node in graph.nodes)


def test_only_a_step_has_parts() -> None:
    with pytest.raises(PackError, match="control_scale"):
        split(rewrite(read_graph(BUNDLED.network_file("hint"))))


def quantised_net(path: Path) -> Path:
    """x (n,3,h,w) -> y: QuantizeLinear, DequantizeLinear, a convolution with int8 weights per channel."""
    random = np.random.default_rng(0)
    weights = {
        "scale": np.array(0.05, np.float32),
        "zero": np.array(3, np.int8),
        "w": random.integers(-127, 128, (8, 3, 3, 3)).astype(np.int8),
        "w_scale": random.uniform(0.001, 0.01, 8).astype(np.float32),
        "w_zero": np.zeros(8, np.int8),
        "b": random.standard_normal(8).astype(np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["v"], axis=0),
        helper.make_node("Conv", ["d", "v", "b"], ["y"], pads=[1, 1, 1, 1]),
    ]
    return save(
        path, nodes, [value("x", ["n", 3, "h", "w"])], [value("y", ["n", 8, "h", "w"])], weights, opset=20
    )


@pytest.mark.parametrize("make", [conv_net, quantised_net])
def test_small_networks(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path / "net.onnx")
    given = {"x": np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32) * 3}
    if make is conv_net:
        given["gain"] = np.array([0.5, 2], np.float32)
    module = OnnxModule(rewrite(read_graph(path)))
    found = module(*[torch.from_numpy(array) for array in given.values()])[0].numpy()
    np.testing.assert_allclose(found, reference(path, given)[0], rtol=1e-5, atol=1e-4)


def test_what_only_looks_like_a_pattern_stays(tmp_path: Path) -> None:
    """Instance norm with a scale, softmax over rows, sigmoid of something else."""
    random = np.random.default_rng(0)
    weights = {
        "groups": np.array([0, 4, -1], np.int64),
        "one": np.full(4, 1.5, np.float32),
        "zero": np.zeros(4, np.float32),
        "w": random.standard_normal((8, 1, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Reshape", ["x", "groups"], ["r"]),
        helper.make_node("InstanceNormalization", ["r", "one", "zero"], ["i"]),
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Reshape", ["i", "s"], ["back"]),
        helper.make_node("Mul", ["back", "w"], ["m"]),
        helper.make_node("Add", ["m", "w"], ["n"]),
        helper.make_node("Sigmoid", ["x"], ["gate"]),
        helper.make_node("Mul", ["n", "gate"], ["g"]),
        helper.make_node("Transpose", ["g"], ["t"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["g", "t"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["p"], axis=2),
        helper.make_node("MatMul", ["p", "g"], ["y"]),
    ]
    shape = ["n", 8, 4, 4]
    path = save(tmp_path / "net.onnx", nodes, [value("x", shape)], [value("y", shape)], weights, opset=20)
    graph = rewrite(read_graph(path))
    assert not {"Attention", "GroupNorm", "Silu"} & {node.op for node in graph.nodes}
    x = random.standard_normal((2, 8, 4, 4)).astype(np.float32)
    found = OnnxModule(graph)(torch.from_numpy(x))[0].numpy()
    np.testing.assert_allclose(found, reference(path, {"x": x})[0], rtol=1e-4, atol=1e-5)


def single(path: Path, node: onnx.NodeProto, *constants: str) -> Path:
    weights = {name: np.ones(4, np.float32) for name in constants}
    return save(path, [node], [value("x", ["n", 4, 4, 4])], [value("y", None)], weights, opset=20)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (helper.make_node("Det", ["x"], ["y"]), "Det"),
        (helper.make_node("Gelu", ["x"], ["y"], domain="com.example"), "com.example"),
        (helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], ceil_mode=1), "ceil_mode"),
        (helper.make_node("Resize", ["x", "", "one"], ["y"], mode="cubic"), "cubic"),
    ],
)
def test_operators_that_are_not_there(node: onnx.NodeProto, words: str, tmp_path: Path) -> None:
    with pytest.raises(PackError, match=words):
        OnnxModule(rewrite(read_graph(single(tmp_path / "n.onnx", node, "one"))))(torch.ones(1, 4, 4, 4))


def test_norms_over_several_axes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="several axes"):
        OnnxModule(rewrite(read_graph(norm_net(tmp_path / "n.onnx"))))(torch.ones(1, 64, 24, 24))


def test_damaged_files(tmp_path: Path) -> None:
    path = conv_net(tmp_path / "net.onnx", external=True)
    text = tmp_path / "text.onnx"
    text.write_text("not a network")
    with pytest.raises(PackError, match=r"text\.onnx: not an ONNX file"):
        read_graph(text)
    weights = path.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:50])
    with pytest.raises(PackError, match=r"net\.bin: the weight w1 is not there"):
        OnnxModule(read_graph(path))
    weights.unlink()
    with pytest.raises(PackError, match="is not there"):
        OnnxModule(read_graph(path))


def test_extents_of_ports() -> None:
    extents = Extents(512, 768, 8)
    port = Port("x", ("N", 4, "h", "w2"), torch.float32)
    assert extents.of(port) == (-1, 4, 64, 48)
    assert Extents(512, 768, 8, batch=2).of(port) == (2, 4, 64, 48)
    assert extents.of(Port("image", (1, 3, "H", "W"), torch.float32)) == (1, 3, 512, 768)
    with pytest.raises(PackError, match="'tokens'"):
        extents.of(Port("x", ("N", "tokens"), torch.float32))
    with pytest.raises(InputError, match="multiples of 32"):
        Extents(512, 720, 8).of(Port("x", ("w4",), torch.float32))
    for wrong in (
        {"height": 0},
        {"width": -8},
        {"height": 100},
        {"width": 8200},
        {"batch": 0},
        {"batch": 5000},
    ):
        with pytest.raises(InputError):
            Extents(**{"height": 64, "width": 64, "factor": 8, **wrong})
