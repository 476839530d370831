"""The onnxruntime backend against the openvino backend and ONNX's reference evaluator, and its refusals."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hoirt
import numpy as np
import onnx
import onnxruntime
import pytest
from blobs import scene
from hoirt import BackendError, OutOfMemory, backends
from hoirt.backends.cuda_driver import SideStream
from hoirt.backends.onnxruntime import backend as backend_module
from hoirt.backends.onnxruntime.narrow import narrow_file
from hoirt.backends.onnxruntime.providers import providers_for
from hoirt.backends.onnxruntime.session import Runner
from hoirt.packs import Pack, open_pack
from network_inputs import inputs_of
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx_models import conv_net, inputs_for, save, value

ROLES = sorted(open_pack("handrefiner-tiny").manifest.networks)
Arrays = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def tiny() -> Pack:
    return open_pack("handrefiner-tiny")


def ort() -> backends.Backend:
    return backends.load("onnxruntime")


def assert_close(found: Arrays, expected: Arrays, tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, wanted in expected.items():
        assert found[name].shape == wanted.shape and found[name].dtype == wanted.dtype, name
        assert np.abs(found[name] - wanted).max() <= tolerance * np.abs(wanted).max(), name


@pytest.mark.parametrize("role", ROLES)
def test_every_network_equals_openvino(tiny: Pack, role: str) -> None:
    path = str(tiny.network_file(role))
    found, expected = ort().open(path, threads=1), backends.load("openvino").open(path, threads=1)
    ports = [[(port.name, port.shape, port.dtype) for port in net.inputs] for net in (found, expected)]
    assert ports[0] == ports[1]
    given = inputs_of(found, height=64, width=96)
    assert_close(found.run(given), expected.run(given), 1e-5)


@pytest.mark.parametrize("role", ["context", "hint", "step", "text_encoder", "time", "vae_decoder"])
def test_networks_equal_the_reference_evaluator(tiny: Pack, role: str) -> None:
    path = str(tiny.network_file(role))
    network = ort().open(path, threads=1)
    given = inputs_of(network, height=32, width=32, batch=1)
    names = [port.name for port in network.outputs]
    expected = dict(zip(names, ReferenceEvaluator(path).run(names, given), strict=True))
    assert_close(network.run(given), expected, 1e-4)


def test_refine_equals_openvino(random_pack: Path, cache_folder: Path) -> None:
    """At most one step of 255 apart, for all but 1 pixel in 1000."""
    pictures = []
    for name in ("openvino", "onnxruntime"):
        refiner = hoirt.Refiner(random_pack, backend=name, device="cpu", precision="fp32")
        assert refiner.backend == name
        pictures.append(refiner(scene(), seed=3).image.astype(np.int16))
    difference = np.abs(pictures[0] - pictures[1])
    assert difference.max() <= 2 and (difference > 1).mean() <= 1e-3


def test_outputs_are_filled_in_place_and_inputs_are_not_copied(tmp_path: Path) -> None:
    path = conv_net(tmp_path / "net.onnx", external=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = inputs_for()
    expected = session.run(None, given)[0]
    run = Runner(session, "cpu", None)
    made = run(given, {"y": None}, 0)
    assert made is not None
    np.testing.assert_array_equal(np.from_dlpack(made["y"]), expected)
    place = np.full_like(expected, np.nan)
    assert run(given, {"y": place}, 0) == {}
    np.testing.assert_array_equal(place, expected)


def test_one_network_in_many_threads(tmp_path: Path) -> None:
    network = ort().open(str(conv_net(tmp_path / "net.onnx")), threads=1)
    given = [{**inputs_for(), "gain": np.full(len(inputs_for()["gain"]), i, np.float32)} for i in range(8)]
    expected = [network.run(item)["y"] for item in given]
    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(pool.map(network.run, given), expected, strict=True):
            np.testing.assert_array_equal(found["y"], wanted)


@pytest.mark.parametrize("role", ["context", "hint", "step", "text_encoder", "vae_decoder", "vae_encoder"])
def test_narrowed_graphs_compute_the_same_in_halves(tiny: Pack, role: str) -> None:
    """On the CPU, whose provider puts casts around kernels that have no halves, and joins some of them."""
    path = tiny.network_file(role)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    session = onnxruntime.InferenceSession(
        narrow_file(path, "fp16"), options, providers=["CPUExecutionProvider"]
    )
    exact = ort().open(str(path), threads=1)
    given = inputs_of(exact, height=32, width=32)
    found = dict(zip([p.name for p in exact.outputs], session.run(None, given), strict=True))
    for name, wanted in exact.run(given).items():
        assert found[name].dtype == np.float32
        assert np.linalg.norm(found[name] - wanted) <= 0.02 * np.linalg.norm(wanted)


def test_narrowed_graph_in_the_reference_evaluator(tiny: Pack) -> None:
    """Which rounds every value to half, as a GPU does."""
    path = tiny.network_file("hint")
    model = onnx.load_from_string(narrow_file(path, "fp16"))
    onnx.load_external_data_for_model(model, str(path.parent))
    exact = ort().open(str(path), threads=1)
    given = inputs_of(exact, height=32, width=32, batch=1)
    found, wanted = ReferenceEvaluator(model).run(["hint"], given)[0], exact.run(given)["hint"]
    assert found.dtype == np.float32
    assert 1e-5 < np.linalg.norm(found - wanted) / np.linalg.norm(wanted) <= 0.02


@pytest.mark.parametrize(("precision", "kind"), [("fp16", 10), ("bf16", 16)])
def test_a_narrowed_graph_is_narrow_everywhere(tiny: Pack, precision: str, kind: int) -> None:
    model = onnx.load_from_string(narrow_file(tiny.network_file("step"), precision))
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    inside = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph.value_info
    float32 = {info.name for info in inside if info.type.tensor_type.elem_type == 1}
    assert not float32 and len(inside) > 500
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    assert sum(types.get(node.input[0]) == 10 and node.attribute[0].i == kind for node in casts) > 90
    assert {v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)} == {1}


def test_scales_of_resize_stay_wide(tmp_path: Path) -> None:
    weights = {"scales": np.array([1, 1, 2, 2], np.float32)}
    nodes = [
        onnx.helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest"),
        onnx.helper.make_node("Mul", ["y", "scales"], ["z"]),
    ]
    path = save(tmp_path / "r.onnx", nodes, [value("x", (1, 1, 2, 2))], [value("z", (1, 1, 4, 4))], weights)
    session = onnxruntime.InferenceSession(narrow_file(path, "fp16"), providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": np.ones((1, 1, 2, 2), np.float32)})[0]
    np.testing.assert_array_equal(found, np.tile(np.array([1, 1, 2, 2], np.float32), (1, 1, 4, 1)))


def test_fixed_shapes(tmp_path: Path) -> None:
    path = str(conv_net(tmp_path / "net.onnx"))
    network = ort().open(path, shapes={"x": (2, 3, 8, 8), "gain": (2,)})
    assert {port.name: port.shape for port in network.inputs} == {"x": (2, 3, 8, 8), "gain": (2,)}
    for wrong in ({"x": (2, 4, 8, 8)}, {"x": (2, 3)}, {"nothing": (1,)}, {"x": (2, 3, 8, 8), "gain": (3,)}):
        with pytest.raises(BackendError, match=r"net\.onnx"):
            ort().open(path, shapes=wrong)


def test_refusals_name_what_is_wrong(tmp_path: Path) -> None:
    good = conv_net(tmp_path / "net.onnx", external=True)
    with pytest.raises(BackendError, match=r"no file .*missing\.onnx"):
        ort().open(str(tmp_path / "missing.onnx"))
    with pytest.raises(BackendError, match="cannot run bf16 on cpu; it can run fp32"):
        ort().open(str(good), precision="bf16")
    for name, data in (("empty", b""), ("text", b"not a network"), ("short", good.read_bytes()[:-40])):
        damaged = tmp_path / f"{name}.onnx"
        damaged.write_bytes(data)
        with pytest.raises(BackendError, match=name):
            ort().open(str(damaged))
    weights = good.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(BackendError, match="net"):
        ort().open(str(good))
    network = ort().open(str(conv_net(tmp_path / "other.onnx")))
    for wrong in ({}, {"x": np.zeros((1, 3, 8), np.float32)}, {**inputs_for(), "x": np.zeros((1, 3, 8, 8))}):
        with pytest.raises(hoirt.HoirtError):
            network.run(wrong)
    with pytest.raises(BackendError):  # shapes that only the graph knows to be wrong
        network.run({"x": np.zeros((2, 3, 8, 8), np.float32), "gain": np.zeros(3, np.float32)})


def test_cuda_needs_a_wheel_with_its_provider() -> None:
    if "cuda" in ort().devices:
        pytest.skip("this onnxruntime has a CUDA provider")
    with pytest.raises(BackendError, match=r"no provider for cuda:0.*hoirt\[onnxruntime-gpu\]"):
        ort().open("net.onnx", device="cuda:0")
    with pytest.raises(BackendError, match=r"hoirt\[onnxruntime-gpu\]"):
        backends.load("onnxruntime-tensorrt")
    assert backends.available()["onnxruntime-tensorrt"].startswith("unavailable: ")


def test_a_provider_that_does_not_start_is_no_fallback(tmp_path: Path, monkeypatch: Any) -> None:
    """As with a wheel for CUDA on a machine without its libraries."""
    monkeypatch.setattr(backend_module.Backend, "_has_provider", lambda self: True)
    monkeypatch.setattr("hoirt.backends.onnxruntime.session.SideStream", Recorder.side)
    with pytest.raises(BackendError, match="CUDAExecutionProvider"):
        backend_module.Backend().open(str(conv_net(tmp_path / "net.onnx")), device="cuda:0")


def test_options_of_the_providers(tmp_path: Path) -> None:
    assert providers_for("cpu", index=0, stream=0, precision="fp32", engines=None) == ["CPUExecutionProvider"]
    tensorrt, cuda, cpu = providers_for(
        "tensorrt", index=1, stream=77, precision="bf16", engines=tmp_path / "key"
    )
    assert (tensorrt[0], cuda[0], cpu) == (
        "TensorrtExecutionProvider",
        "CUDAExecutionProvider",
        "CPUExecutionProvider",
    )
    for _, options in (tensorrt, cuda):  # type: ignore[misc]
        assert options["device_id"] == "1" and options["user_compute_stream"] == "77"
        assert all(isinstance(text, str) for text in options.values())
    engines = tensorrt[1]
    assert engines["trt_bf16_enable"] == "1" and engines["trt_fp16_enable"] == "0"
    assert engines["trt_engine_cache_path"] == str(tmp_path / "key")
    assert Path(engines["trt_timing_cache_path"]).parent == tmp_path


class Recorder:
    """Stands in for libcuda: keeps the names of the calls and the streams and events in them."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.fails = ""

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            if name in ("cuStreamCreate", "cuEventCreate"):
                arguments[0]._obj.value = 100 + len(self.calls)
            plain = [getattr(a, "value", None) for a in arguments if hasattr(a, "value")]
            self.calls.append((name, *plain))
            return int(name == self.fails)

        return call

    @staticmethod
    def side(index: int) -> SideStream:
        return SideStream(index, driver=Recorder())


def test_a_side_stream_stands_in_the_order_of_its_caller() -> None:
    driver = Recorder()
    side = SideStream(0, driver)
    driver.calls.clear()
    with side.inside(7):
        driver.calls.append("work")
    kept = [call for call in driver.calls if call == "work" or "Event" in call[0]]
    (_, before, first), (_, own, waited), _, (_, after, second), (_, third, last) = kept
    assert [call if call == "work" else call[0] for call in kept] == [
        "cuEventRecord",
        "cuStreamWaitEvent",
        "work",
        "cuEventRecord",
        "cuStreamWaitEvent",
    ]
    assert (first, own, second, third) == (7, side.handle, side.handle, 7)
    assert before == waited and after == last and before != after
    pushes = [call[0] for call in driver.calls if "Ctx" in call[0]]
    assert pushes == ["cuCtxPushCurrent_v2", "cuCtxPopCurrent_v2"] * 2
    side.close()
    side.close()
    assert [call[0] for call in driver.calls].count("cuStreamDestroy_v2") == 1


def test_a_failing_driver_is_a_typed_error() -> None:
    driver = Recorder()
    driver.fails = "cuStreamCreate"
    with pytest.raises(BackendError, match="cuStreamCreate failed"):
        SideStream(0, driver)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("bfc_arena.cc: Failed to allocate memory for requested buffer of size 16", OutOfMemory),
        ("CUDA failure 2: out of memory ; GPU=0", OutOfMemory),
        ("Non-zero status code returned", BackendError),
    ],
)
def test_a_lack_of_memory_is_told(said: str, kind: type[Exception], tmp_path: Path) -> None:
    class Failing:
        def __init__(self, session: Any) -> None:
            self._session = session

        def __getattr__(self, name: str) -> Any:
            return getattr(self._session, name)

        def run_with_iobinding(self, *_: Any) -> None:
            raise RuntimeError(said)

    path = conv_net(tmp_path / "net.onnx", external=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    run = Runner(Failing(session), "cpu", None)
    with pytest.raises(kind, match="onnxruntime failed"):
        run(inputs_for(), {"y": None}, 0)
