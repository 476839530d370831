"""The OpenVINO backend: right numbers and errors, safe from many threads, same bits for any thread count."""

import contextlib
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hoirt.backends
import numpy as np
import pytest
from hoirt import BackendError, InputError, PackError
from onnx import TensorProto, helper
from onnx_models import conv_net, inputs_for, norm_net, reference, save, value

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def backend():
    return hoirt.backends.load("openvino")


@pytest.fixture(scope="module")
def net_path(tmp_path_factory):
    return conv_net(tmp_path_factory.mktemp("models") / "conv.onnx")


@pytest.fixture(scope="module")
def network(backend, net_path):
    return backend.open(str(net_path))


def test_ports_are_those_of_the_file(network):
    assert [(p.name, tuple(p.shape), p.dtype) for p in network.inputs] == [
        ("x", (-1, 3, -1, -1), "float32"),
        ("gain", (-1,), "float32"),
    ]
    assert [(p.name, tuple(p.shape), p.dtype) for p in network.outputs] == [("y", (-1, 4, -1, -1), "float32")]


@pytest.mark.parametrize("n,size", [(1, 8), (2, 8), (3, 5), (1, 17)])
def test_any_shape_matches_onnxruntime(network, net_path, n, size):
    inputs = inputs_for(n, size)
    np.testing.assert_allclose(network.run(inputs)["y"], reference(net_path, inputs)[0], **TOLERANCE)


def test_static_shapes(backend, net_path):
    network = backend.open(str(net_path), shapes={"x": (2, 3, 8, 8), "gain": (2,)})
    assert [tuple(p.shape) for p in network.inputs] == [(2, 3, 8, 8), (2,)]
    assert tuple(network.outputs[0].shape) == (2, 4, 8, 8)
    inputs = inputs_for()
    np.testing.assert_allclose(network.run(inputs)["y"], reference(net_path, inputs)[0], **TOLERANCE)
    with pytest.raises(InputError, match=r"x.*\(2, 3, 8, 8\).*\(1, 3, 8, 8\)"):
        network.run({**inputs, "x": inputs["x"][:1]})


def test_shapes_may_stay_dynamic(backend, net_path):
    network = backend.open(str(net_path), shapes={"x": (-1, 3, -1, -1)})
    for n, size in ((1, 8), (2, 9)):
        inputs = inputs_for(n, size)
        np.testing.assert_allclose(network.run(inputs)["y"], reference(net_path, inputs)[0], **TOLERANCE)


@pytest.mark.parametrize(
    "shapes,message",
    [
        ({"z": (1,)}, "'z'; it has x, gain"),
        ({"x": (1, 4, 8, 8)}, r"\(1, 4, 8, 8\).*\(-1, 3, -1, -1\)"),
        ({"x": (1, 3, 8)}, r"\(1, 3, 8\)"),
        ({"x": (0, 3, 8, 8)}, r"\(0, 3, 8, 8\)"),
        ({"x": (-2, 3, 8, 8)}, r"\(-2, 3, 8, 8\)"),
    ],
)
def test_impossible_static_shapes(backend, net_path, shapes, message):
    with pytest.raises(InputError, match=message):
        backend.open(str(net_path), shapes=shapes)


def changed(**arrays):
    return {**inputs_for(), **arrays}


@pytest.mark.parametrize(
    "inputs,message",
    [
        ({"x": inputs_for()["x"]}, "gain"),
        (changed(extra=np.zeros(1, np.float32)), "extra"),
        (changed(x=np.zeros((2, 4, 8, 8), np.float32)), r"x.*\(-1, 3, -1, -1\).*\(2, 4, 8, 8\)"),
        (changed(x=np.zeros((2, 3, 8), np.float32)), r"x.*\(-1, 3, -1, -1\).*\(2, 3, 8\)"),
        (changed(x=np.zeros((0, 3, 8, 8), np.float32)), r"x.*\(0, 3, 8, 8\)"),
        (changed(gain=np.zeros(2, np.float64)), "gain.*float32.*float64"),
        (changed(gain=np.zeros(3, np.float32)), r"\(2, 3, 8, 8\)\(3,\)|\(2, 3, 8, 8\).*\(3,\)"),
    ],
)
def test_wrong_inputs(network, inputs, message):
    with pytest.raises(InputError, match=message):
        network.run(inputs)


def test_every_dtype_passes_through(backend, tmp_path):
    dtypes = {
        "float32": TensorProto.FLOAT,
        "float64": TensorProto.DOUBLE,
        "float16": TensorProto.FLOAT16,
        "int32": TensorProto.INT32,
        "int64": TensorProto.INT64,
        "uint8": TensorProto.UINT8,
        "bool": TensorProto.BOOL,
    }
    nodes, ins, outs = [], [], []
    for name, kind in dtypes.items():
        nodes.append(helper.make_node("Reshape", [name, "flat"], [f"{name}_out"]))
        ins.append(value(name, ["n", 2], kind))
        outs.append(value(f"{name}_out", ["m"], kind))
    path = save(tmp_path / "types.onnx", nodes, ins, outs, {"flat": np.array([-1], np.int64)})
    network = backend.open(str(path))
    arrays = {name: np.array([[0, 1], [1, 0], [1, 1]]).astype(name) for name in dtypes}
    results = network.run(arrays)
    for name, array in arrays.items():
        assert results[f"{name}_out"].dtype == array.dtype
        np.testing.assert_array_equal(results[f"{name}_out"], array.reshape(-1))


def test_scalar_and_data_dependent_shapes(backend, tmp_path):
    nodes = [
        helper.make_node("Mul", ["x", "s"], ["scaled"]),
        helper.make_node("NonZero", ["scaled"], ["y"]),
    ]
    path = save(
        tmp_path / "nonzero.onnx",
        nodes,
        [value("x", ["n"]), value("s", [])],
        [value("y", [1, "k"], TensorProto.INT64)],
    )
    network = backend.open(str(path))
    for x in (np.array([0, 2, 0, 3], np.float32), np.ones(4, np.float32), np.array([0, 0, 0, 1], np.float32)):
        result = network.run({"x": x, "s": np.array(2, np.float32)})["y"]
        np.testing.assert_array_equal(result, np.nonzero(x))


def test_unsupported_dtype(backend, tmp_path):
    node = helper.make_node("Identity", ["s"], ["t"])
    kind = TensorProto.UINT16
    path = save(tmp_path / "odd.onnx", [node], [value("s", ["n"], kind)], [value("t", ["n"], kind)])
    with pytest.raises(BackendError, match="u16"):
        backend.open(str(path))


def test_unsupported_operation(backend, tmp_path):
    node = helper.make_node("Frobnicate", ["x"], ["y"], domain="example.unknown")
    path = save(tmp_path / "unknown.onnx", [node], [value("x", [1])], [value("y", [1])])
    with pytest.raises(BackendError, match="Frobnicate"):
        backend.open(str(path))


def test_files_that_are_no_model(backend, tmp_path, net_path):
    content = net_path.read_bytes()
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "model.pt").write_bytes(content)
    bad = {"empty": b"", "text": b"hello " * 50, "zeros": bytes(4096)}
    for name, data in bad.items():
        (tmp_path / f"{name}.onnx").write_bytes(data)
    for name in ("missing.onnx", "folder.onnx", "model.pt", *(f"{name}.onnx" for name in bad)):
        with pytest.raises(PackError, match=name.replace(".", r"\.")):
            backend.open(str(tmp_path / name))


def test_truncated_and_damaged_files_never_crash(backend, tmp_path, net_path):
    content = net_path.read_bytes()
    path = tmp_path / "cut.onnx"
    for cut in range(1, len(content), len(content) // 24):
        path.write_bytes(content[:cut])
        with pytest.raises((PackError, BackendError), match=r"cut\.onnx"):
            backend.open(str(path)).run(inputs_for())
    rng = np.random.default_rng(0)
    for _ in range(40):
        damaged = bytearray(content)
        for at in rng.integers(0, len(content), 3):
            damaged[at] = rng.integers(256)
        path.write_bytes(damaged)
        # Damage in a weight leaves a valid model; anything else must be a typed error.
        with contextlib.suppress(PackError, BackendError, InputError):
            backend.open(str(path)).run(inputs_for())


def test_external_data(backend, tmp_path):
    path = conv_net(tmp_path / "ext.onnx", external=True)
    data = tmp_path / "ext.bin"
    inputs = inputs_for()
    network = backend.open(str(path))
    np.testing.assert_allclose(network.run(inputs)["y"], reference(path, inputs)[0], **TOLERANCE)
    del network
    content = data.read_bytes()
    data.write_bytes(content[:100])
    with pytest.raises(PackError, match=r"ext\.onnx"):
        backend.open(str(path))
    data.unlink()
    with pytest.raises(PackError, match=r"ext\.onnx"):
        backend.open(str(path))


def resident_bytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def test_many_threads_get_their_own_results_and_leak_nothing(network):
    cases = [inputs_for(1 + i % 3, 8, seed=i) for i in range(8)]
    expected = [network.run(inputs)["y"] for inputs in cases]

    def work(case):
        for _ in range(50):
            np.testing.assert_array_equal(network.run(cases[case])["y"], expected[case])

    def round_of_threads():
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))

    round_of_threads()
    before = resident_bytes()
    round_of_threads()
    assert resident_bytes() - before < 16 * 2**20


def test_first_runs_from_many_threads(backend, net_path):
    network = backend.open(str(net_path))
    gate = threading.Barrier(6)

    def work(i):
        gate.wait()
        return network.run(inputs_for(1 + i % 2, 8, seed=i % 2))["y"]

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(work, range(6)))
    for i, result in enumerate(results):
        np.testing.assert_array_equal(result, results[i % 2])


def test_forgotten_shapes_give_the_same_bits_again(backend, net_path):
    network = backend.open(str(net_path))
    first = [network.run(inputs_for(1, size))["y"] for size in range(4, 16)]  # more than are kept compiled
    for size, expected in zip(range(4, 16), first, strict=True):
        np.testing.assert_array_equal(network.run(inputs_for(1, size))["y"], expected)


def test_same_bits_for_every_thread_count(backend, net_path, tmp_path):
    x = np.random.default_rng(2).standard_normal((2, 64, 24, 24)).astype(np.float32)
    norms = norm_net(tmp_path / "norm.onnx")
    expected = backend.open(str(norms), threads=1).run({"x": x})["y"]
    np.testing.assert_allclose(expected, reference(norms, {"x": x})[0], **TOLERANCE)
    convs = backend.open(str(net_path), threads=1).run(inputs_for(2, 32))["y"]
    for threads in (0, 2, 3):
        np.testing.assert_array_equal(backend.open(str(norms), threads=threads).run({"x": x})["y"], expected)
        network = backend.open(str(net_path), threads=threads)
        np.testing.assert_array_equal(network.run(inputs_for(2, 32))["y"], convs)


def test_an_item_does_not_depend_on_its_neighbours(network):
    batch = inputs_for(3)
    together = network.run(batch)["y"]
    for i in range(3):
        alone = network.run({name: array[i : i + 1] for name, array in batch.items()})["y"]
        np.testing.assert_array_equal(alone[0], together[i])


def test_bf16(backend, net_path):
    try:
        network = backend.open(str(net_path), precision="bf16")
    except BackendError as error:
        pytest.skip(str(error))
    inputs = inputs_for(2, 16)
    exact = backend.open(str(net_path)).run(inputs)["y"]
    error = np.abs(network.run(inputs)["y"] - exact).max() / np.abs(exact).max()
    assert 1e-4 < error < 3e-2  # 8 bits of mantissa: visibly not fp32, and not more wrong than that


def test_precisions_are_those_that_open_the_fastest_first(backend, net_path):
    assert "fp32" in backend.precisions()
    for precision in backend.precisions():
        backend.open(str(net_path), precision=precision)
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    assert backend.precisions()[0] == ("bf16" if "avx512_bf16" in flags else "fp32")


@pytest.mark.parametrize("precision", ["int8", "fp64", ""])
def test_impossible_precision_says_what_is_possible(backend, net_path, precision):
    with pytest.raises(BackendError, match=f'"{precision}".*fp32'):
        backend.open(str(net_path), precision=precision)


def test_negative_threads(backend, net_path):
    with pytest.raises(InputError, match="-1"):
        backend.open(str(net_path), threads=-1)


def test_unet(backend, tmp_path):
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(32, 32),
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=8,
    ).eval()

    class Step(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.unet = unet

        def forward(self, sample, timestep, states):
            return self.unet(sample, timestep, states, return_dict=False)[0]

    path = tmp_path / "unet.onnx"
    example = (torch.randn(2, 4, 16, 16), torch.tensor([10.0, 700.0]), torch.randn(2, 6, 16))
    names = ["sample", "timestep", "states"]
    axes = {name: {0: "n"} for name in [*names, "prediction"]}
    torch.onnx.export(
        Step(),
        example,
        str(path),
        input_names=names,
        output_names=["prediction"],
        dynamic_axes=axes,
        dynamo=False,
    )
    with torch.no_grad():
        expected = Step()(*example).numpy()
    inputs = dict(zip(names, (tensor.numpy() for tensor in example), strict=True))
    results = [backend.open(str(path), threads=threads).run(inputs)["prediction"] for threads in (1, 2)]
    np.testing.assert_allclose(results[0], expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(results[0], results[1])


def test_python_package_of_the_runtime_stays_out_and_the_exit_is_clean(net_path):
    script = f"""
import sys
import numpy as np
import hoirt.backends
network = hoirt.backends.load().open({str(net_path)!r})
network.run({{"x": np.zeros((1, 3, 8, 8), np.float32), "gain": np.ones(1, np.float32)}})
assert "openvino" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
