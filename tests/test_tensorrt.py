"""The backend tensorrt against a stand-in for the library: runs, memory, weights, the loop."""

from __future__ import annotations

import ctypes
import threading
import weakref
from pathlib import Path
from typing import Any

import fake_tensorrt
import numpy as np
import onnx
import pytest
from hoirt import BackendError, InputError, _core, schedules
from hoirt.backends.tensorrt import Backend, Options, driver
from hoirt.backends.tensorrt.backend import network_of
from onnx_models import reference
from tensorrt_tools import AROUND, DEVICE, Device, Memory, inputs, opened, run, write_network

pytest_plugins = ["tensorrt_tools"]


# --- running ------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-6), ("fp16", 2e-3)])
def test_results_are_those_of_the_file(
    module: Any, device: Device, network: Path, precision: str, bound: float
) -> None:
    engine = opened(network, precision=precision)
    for given in (inputs(), inputs(1, 4, 16), inputs(4, 16, 5)):
        np.testing.assert_allclose(run(engine, given), reference(network, given)[0], rtol=bound, atol=bound)


def test_outputs_that_are_given_are_written_in_place(module: Any, device: Device, network: Path) -> None:
    engine, given = opened(network), inputs()
    memory = Memory((2, 4, 8, 8), "float32")
    assert engine({k: Memory.of(v) for k, v in given.items()}, {"prediction": memory}, 7) is None
    np.testing.assert_allclose(memory.array, reference(network, given)[0], rtol=1e-5, atol=1e-6)


def test_outputs_that_nobody_asks_for_keep_their_memory(
    module: Any, device: Device, network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine writes them when the stream gets there, and with each replay of a graph."""
    written: list[int] = []
    module.fake.enqueue = lambda stream, work, arrays: written.append(arrays[-1].ctypes.data)
    engine, made = opened(network), []
    make = device.empty

    def empty(*arguments: Any, **options: Any) -> Memory:
        memory = make(*arguments, **options)
        made.append((memory.address, weakref.ref(memory)))
        return memory

    monkeypatch.setattr(device, "empty", empty)
    memories = {name: Memory.of(array) for name, array in inputs().items()}
    for _ in range(2):
        assert engine(memories, {}, 7) is None
    alive = {address for address, memory in made if memory() is not None}
    assert len(set(written)) == 1 and set(written) <= alive


def test_tensors_that_are_not_aligned_are_copied(
    module: Any, device: Device, network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[int] = []

    def copy(target: int, source: int, size: int, stream: int) -> None:
        moved.append(size)
        ctypes.memmove(target, source, size)

    monkeypatch.setattr(driver, "copy", copy)
    engine = opened(network)
    for given in (inputs(), inputs(1), inputs()):
        memories = {name: Memory.of(array) for name, array in given.items()}
        memories["scale"] = Memory(given["scale"].shape, "float32", offset=4)
        memories["scale"].array[...] = given["scale"]
        out = Memory(given["sample"].shape, "float32", offset=8)
        assert engine(memories, {"prediction": out}, 7) is None
        np.testing.assert_allclose(out.array, reference(network, given)[0], rtol=1e-5, atol=1e-6)
    assert moved == [8, 2048, 4, 1024, 8, 2048]


def test_the_exact_profile_is_used_for_the_best_shape_alone(
    module: Any, device: Device, network: Path
) -> None:
    engine = opened(network)
    run(engine, inputs(2, 8, 8))
    assert "set_optimization_profile_async" not in module.fake.calls
    run(engine, inputs(2, 8, 9))
    assert "set_optimization_profile_async" in module.fake.calls


def test_shapes_that_no_profile_takes(module: Any, device: Device, network: Path) -> None:
    with pytest.raises(InputError, match=r"sample.*\[5, 4, 8, 8\].*\[1, 4, 4, 4\] to \[4, 4, 16, 16\]"):
        run(opened(network), inputs(5))
    with pytest.raises(InputError, match="sample"):
        run(opened(network), inputs(0))


def test_fixed_shapes_need_no_profile(module: Any, device: Device, network: Path) -> None:
    engine = opened(network, shapes={"sample": (2, 4, 8, 8), "scale": (2,)})
    run(engine, inputs())
    with pytest.raises(InputError, match="not built for"):
        run(engine, inputs(1))
    for wrong in ({"sample": (2, 3, 8, 8)}, {"other": (1,)}, {"scale": (1, 1)}):
        with pytest.raises(InputError, match="shapes"):
            opened(network, shapes=wrong)


def test_a_context_belongs_to_one_stream_and_one_set_of_shapes(
    module: Any, device: Device, network: Path
) -> None:
    engine = opened(network)
    for stream, given in ((7, inputs()), (7, inputs()), (8, inputs()), (7, inputs(1)), (7, inputs())):
        run(engine, given, stream)
    assert module.fake.calls.count("create_execution_context") == 3


def test_many_threads(module: Any, device: Device, network: Path) -> None:
    engine = opened(network)
    wrong: list[int] = []

    def work(number: int) -> None:
        given = inputs(1 + number % 3)
        expected = reference(network, given)[0]
        for _ in range(5):
            if not np.allclose(run(engine, given, stream=1 + number), expected, atol=1e-5):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_engines_on_one_stream_share_their_scratch_memory(module: Any, device: Device, network: Path) -> None:
    backend = Backend()
    options = Options(profiles=(AROUND.exact(), AROUND))
    engines = [backend.open_engine(str(network), device=DEVICE, options=options) for _ in range(3)]
    device.sizes.clear()
    for engine in engines:
        run(engine, inputs(2))
    assert device.sizes.count(2 * fake_tensorrt.SCRATCH) == 1  # reserved for the exact profile of all
    run(engines[0], inputs(4))  # a larger block, which the contexts that are there do not move to
    assert device.sizes.count(4 * fake_tensorrt.SCRATCH) == 1
    run(engines[1], inputs(3))
    run(engines[0], inputs(2), stream=8)
    assert sum(size >= 2 * fake_tensorrt.SCRATCH for size in device.sizes) == 3


def test_what_is_bound_is_checked(module: Any, device: Device, network: Path) -> None:
    engine, given = opened(network), inputs()
    memories = {name: Memory.of(array) for name, array in given.items()}
    with pytest.raises(InputError, match=r"needs the inputs \['scale'\]"):
        engine({"sample": memories["sample"]}, {}, 7)
    with pytest.raises(BackendError, match="not on the device: ndarray"):
        engine({**memories, "scale": given["scale"]}, {}, 7)
    with pytest.raises(InputError, match="sample is float32, not float16"):
        engine({**memories, "sample": Memory((2, 4, 8, 8), "float16")}, {}, 7)
    with pytest.raises(InputError, match=r"prediction is \(2, 4, 8, 8\), not \(1, 4, 8, 8\)"):
        engine(memories, {"prediction": Memory((1, 4, 8, 8), "float32")}, 7)


# --- weights ------------------------------------------------------------------


def changed(network: Path, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """Another file of the same graph, and its weights."""
    other = write_network(tmp_path / "other.onnx", seed=5)
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(str(other)).graph.initializer}
    return other, {name: array for name, array in arrays.items() if name.startswith("conv")}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_refit_by_name(module: Any, device: Device, network: Path, tmp_path: Path, precision: str) -> None:
    other, weights = changed(network, tmp_path)
    engine, given = opened(network, refit=True, precision=precision), inputs()
    run(engine, given)
    assert set(weights) <= set(engine.weights())
    engine.refit(weights)
    assert device.waits == 1
    np.testing.assert_allclose(run(engine, given), reference(other, given)[0], rtol=5e-3, atol=5e-3)
    assert ("release" in module.fake.calls) == module.__version__.startswith("11")


def test_refit_from_another_file(module: Any, device: Device, network: Path, tmp_path: Path) -> None:
    other, _ = changed(network, tmp_path)
    engine, given = opened(network, refit=True), inputs()
    engine.refit_from(other)
    np.testing.assert_allclose(run(engine, given), reference(other, given)[0], rtol=1e-5, atol=1e-5)


def test_wrong_weights_change_nothing(module: Any, device: Device, network: Path, tmp_path: Path) -> None:
    engine, given = opened(network, refit=True), inputs()
    before = run(engine, given).copy()
    bias = np.zeros(4, np.float32)
    for wrong, message in (
        ({"conv.biass": bias}, "no weight 'conv.biass'"),
        ({"conv.bias": bias[:3]}, "has 4 values, not 3"),
        ({"conv.bias": bias + np.nan}, "NaN"),
    ):
        with pytest.raises(InputError, match=message):
            engine.refit(wrong)
    assert (run(engine, given) == before).all()


def test_an_engine_without_refit_says_so(module: Any, device: Device, network: Path) -> None:
    engine = opened(network)
    assert engine.weights() == []
    with pytest.raises(BackendError, match="refit=True"):
        engine.refit({})
    with pytest.raises(BackendError, match="refit=True"):
        engine.refit_from(network)


def test_a_stripped_plan_takes_its_weights_from_the_pack(
    module: Any, device: Device, network: Path, tmp_path: Path
) -> None:
    cache = str(tmp_path / "step")
    for _ in range(2):  # built, then loaded
        given = inputs()
        result = run(opened(network, strip=True, cache_path=cache, precision="fp16"), given)
        np.testing.assert_allclose(result, reference(network, given)[0], rtol=5e-3, atol=5e-3)
    assert module.fake.calls.count("refit_from_file") == 2
    assert module.fake.calls.count("build_serialized_network") == 1


# --- in the denoise loop --------------------------------------------------------


def test_the_denoise_loop_runs_an_engine(module: Any, device: Device, network: Path) -> None:
    """The engine behind the ports of a DeviceNetwork; its arrays are copied to where an engine wants them."""
    engine = opened(network)
    reference_network = _core.PythonNetwork(
        [_core.Port("sample", [-1, 4, -1, -1]), _core.Port("scale", [-1])],
        [_core.Port("prediction", [-1, 4, -1, -1])],
        lambda given: {"prediction": reference(network, given)[0]},
    )

    class OnHost:
        inputs, outputs = engine.inputs, engine.outputs

        def __call__(self, inputs: Any, outputs: Any, stream: int) -> Any:
            made = engine({k: Memory.of(v) for k, v in inputs.items()}, dict.fromkeys(outputs), stream)
            assert made is not None
            if outputs["prediction"] is None:
                return {"prediction": made["prediction"].array}
            outputs["prediction"][...] = made["prediction"].array
            return None

    table = schedules.build({"_class_name": "DDIMScheduler", "clip_sample": False}, 4, guidance=2.0)
    results = []
    for made in (network_of(OnHost(), "cpu"), reference_network):  # type: ignore[arg-type]
        loop = _core.DenoiseLoop(made, timestep=None, control="scale")
        results.append(loop.run(table, shape=(2, 4, 8, 8), seeds=[1, 2]).latents)
    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-5)
    assert network_of(OnHost(), "cpu").capturable  # type: ignore[arg-type]
