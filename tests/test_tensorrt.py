"""The backend tensorrt against a stand-in for the library: runs, builds, cache, memory, weights, errors."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import fake_tensorrt
import numpy as np
import onnx
import pytest
from hoirt import BackendError, Cancelled, CancelToken, InputError, OutOfMemory, PackError
from hoirt.backends import devices
from hoirt.backends.tensorrt import Backend, Engine, Options, Profile
from hoirt.backends.tensorrt.library import Library
from onnx_models import reference
from tensorrt_tools import Device, Memory, write_network

DEVICE = "cuda:0"
AROUND = Profile(batch=(1, 2, 4), pixels=(32, 64, 128))


@pytest.fixture(params=["10.16.1.11", "11.4.0.106"])
def module(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    made = fake_tensorrt.make(request.param)
    monkeypatch.setitem(sys.modules, "tensorrt", made)
    monkeypatch.setattr(Library, "_one", None)
    return made


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    made = Device()
    monkeypatch.setattr(devices, "open_device", lambda name: made)
    return made


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return write_network(tmp_path / "step.onnx")


def opened(path: Path, **options: Any) -> Engine:
    how = {"precision": "fp32", "cache_path": ""} | {
        key: options.pop(key)
        for key in ("precision", "cache_path", "report", "cancel", "shapes")
        if key in options
    }
    made = Options(**{"profiles": (AROUND.exact(), AROUND), **options})
    return Backend().open_engine(str(path), device=DEVICE, options=made, **how)


def inputs(n: int = 2, h: int = 8, w: int = 8) -> dict[str, Any]:
    rng = np.random.default_rng(n + h)
    return {
        "sample": rng.standard_normal((n, 4, h, w)).astype(np.float32),
        "scale": rng.uniform(0.5, 2, n).astype(np.float32),
    }


def run(engine: Engine, given: dict[str, Any], stream: int = 7) -> Any:
    memories = {name: Memory.of(array) for name, array in given.items()}
    made = engine(memories, {"prediction": None}, stream)
    assert made is not None
    return made["prediction"].array


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
    with pytest.raises(BackendError, match="aligned to 256"):
        engine({**memories, "scale": Memory((2,), "float32", offset=4)}, {}, 7)
    with pytest.raises(InputError, match=r"prediction is \(2, 4, 8, 8\), not \(1, 4, 8, 8\)"):
        engine(memories, {"prediction": Memory((1, 4, 8, 8), "float32")}, 7)


# --- building -----------------------------------------------------------------


def test_progress_rises_to_one(module: Any, device: Device, network: Path) -> None:
    seen: list[tuple[str, float]] = []
    opened(network, report=lambda phase, share: seen.append((phase, share)))
    shares = [share for _, share in seen]
    assert shares == sorted(shares) and shares[0] > 0 and shares[-1] == 1
    assert {phase for phase, _ in seen} == {"Building", "Tactics"}


def test_a_report_that_says_false_stops_the_build(module: Any, device: Device, network: Path) -> None:
    seen: list[float] = []

    def report(_phase: str, share: float) -> bool:
        seen.append(share)
        return len(seen) < 3

    with pytest.raises(Cancelled):
        opened(network, report=report)
    assert len(seen) == 3


def test_an_exception_of_the_report_is_raised(module: Any, device: Device, network: Path) -> None:
    def report(_phase: str, _share: float) -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        opened(network, report=report)


def test_a_token_stops_the_build(module: Any, device: Device, network: Path, tmp_path: Path) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        opened(network, cancel=token, cache_path=str(tmp_path / "cache" / "step"))
    assert not (tmp_path / "cache").exists()  # nothing half-built is kept


def test_ctrl_c_stops_the_build(module: Any, device: Device, network: Path) -> None:
    module.fake.steps = 10_000
    pressed = threading.Event()

    def report(_phase: str, _share: float) -> None:
        if not pressed.is_set():
            pressed.set()
            os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(0.01)

    with pytest.raises(KeyboardInterrupt):
        opened(network, report=report)
    for thread in threading.enumerate():
        if thread.name == "hoirt-tensorrt-build":
            thread.join(5)
            assert not thread.is_alive()


@pytest.mark.parametrize("call", ["create_network", "parse_from_file", "build_serialized_network"])
def test_a_build_that_fails_says_why(module: Any, device: Device, network: Path, call: str) -> None:
    module.fake.refuse.add(call)
    with pytest.raises(BackendError, match=rf"tensorrt {module.__version__}.*no {call}"):
        opened(network)


def test_parser_errors_name_the_node(module: Any, device: Device, network: Path) -> None:
    module.fake.refuse.add("parse_from_file")
    with pytest.raises(BackendError, match="Conv /conv: not understood"):
        opened(network)


@pytest.mark.parametrize(
    "call",
    [
        "deserialize_cuda_engine",
        "create_execution_context",
        "set_optimization_profile_async",
        "set_input_shape",
        "set_tensor_address",
        "execute_async_v3",
    ],
)
def test_a_run_that_fails_says_why(module: Any, device: Device, network: Path, call: str) -> None:
    module.fake.refuse.add(call)
    with pytest.raises(BackendError, match=f"no {call}"):
        run(opened(network), inputs(1))


def test_too_little_memory_is_its_own_error(module: Any, device: Device, network: Path) -> None:
    library = Library.load()
    for said in ("OutOfMemory: no memory", "Requested amount of GPU memory could not be allocated"):
        library.messages.append(said)
        assert isinstance(library.failure("x"), OutOfMemory)
    library.messages.append("a node is wrong")
    assert isinstance(library.failure("x"), BackendError)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"level": 6}, "level"), ({"level": -1}, "level"), ({"aux_streams": -1}, "aux_streams")],
)
def test_options_out_of_range(module: Any, device: Device, network: Path, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        opened(network, **options)


def test_wrong_files_devices_and_precisions(
    module: Any, device: Device, network: Path, tmp_path: Path
) -> None:
    backend = Backend()
    with pytest.raises(BackendError, match="not on cpu"):
        backend.open_engine(str(network), device="cpu")
    with pytest.raises(BackendError, match="bf16, fp16, fp32, not 'int4'"):
        backend.open_engine(str(network), device=DEVICE, precision="int4")
    (tmp_path / "text.onnx").write_text("not a graph")
    for name in ("text.onnx", "missing.onnx"):
        with pytest.raises(PackError, match=name):
            backend.open_engine(str(tmp_path / name), device=DEVICE)


def test_missing_weights_are_a_pack_error(module: Any, device: Device, network: Path) -> None:
    network.with_suffix(".bin").write_bytes(b"short")
    with pytest.raises(PackError, match=r"conv\.weight"):
        opened(network)


# --- the cache ----------------------------------------------------------------


def test_an_engine_is_built_once(module: Any, device: Device, network: Path, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache" / "step")
    first = run(opened(network, cache_path=cache), inputs())
    second = run(opened(network, cache_path=cache), inputs())
    assert module.fake.calls.count("build_serialized_network") == 1
    assert (first == second).all()
    opened(network, cache_path=cache, precision="fp16")
    opened(network, cache_path=cache, refit=True)
    opened(network, cache_path=cache, profiles=(AROUND,))
    assert module.fake.calls.count("build_serialized_network") == 4
    names = sorted(path.name.rpartition("-")[0] for path in (tmp_path / "cache").iterdir())
    assert names == ["step"] * 4 + ["tensorrt-timings"]


def test_another_gpu_or_version_has_engines_of_its_own(
    module: Any, device: Device, network: Path, tmp_path: Path
) -> None:
    cache = str(tmp_path / "step")
    opened(network, cache_path=cache)
    device.name = "Another GPU"
    opened(network, cache_path=cache)
    Library.load().version = "10.99"
    opened(network, cache_path=cache)
    assert module.fake.calls.count("build_serialized_network") == 3


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "text", "old"])
def test_a_damaged_file_is_built_again(
    module: Any, device: Device, network: Path, tmp_path: Path, damage: str
) -> None:
    cache = tmp_path / "cache" / "step"
    opened(network, cache_path=str(cache))
    file = next(cache.parent.glob("step-*"))
    whole = file.read_bytes()
    file.write_bytes(
        {
            "cut": whole[:-3],
            "bit": whole[:-1] + bytes([whole[-1] ^ 1]),
            "empty": b"",
            "text": b"hello",
            "old": whole.replace(b"tensorrt 1", b"tensorrt 0", 1),
        }[damage]
    )
    run(opened(network, cache_path=str(cache)), inputs())
    assert module.fake.calls.count("build_serialized_network") == 2
    assert file.read_bytes() != b""
    opened(network, cache_path=str(cache))
    assert module.fake.calls.count("build_serialized_network") == 2


def test_a_plan_that_the_library_does_not_take_is_built_again(
    module: Any, device: Device, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(network, cache_path=str(tmp_path / "step"))
    fake_tensorrt.Plan.known.clear()
    with pytest.raises(KeyError):  # the stand-in's own failure
        opened(network, cache_path=str(tmp_path / "step"))
    module.fake.refuse.add("deserialize_cuda_engine")
    with pytest.raises(BackendError, match="loading the engine"):
        opened(network, cache_path=str(tmp_path / "step"))
    assert module.fake.calls.count("build_serialized_network") == 2


def test_timings_are_kept_and_damaged_ones_dropped(
    module: Any, device: Device, network: Path, tmp_path: Path
) -> None:
    cache = str(tmp_path / "step")
    opened(network, cache_path=cache)
    opened(network, cache_path=cache, refit=True)
    file = next(tmp_path.glob("tensorrt-timings-*"))
    assert file.read_bytes().endswith(b"\n..")  # one for each build
    from hoirt.backends.tensorrt import plan_file

    key = {"gpu": device.name, "tensorrt": module.__version__}
    plan_file.write(file, key, b"damaged")
    opened(network, cache_path=cache, level=4)
    assert plan_file.read(file, key) == b"."


def test_a_cache_that_cannot_be_written_is_warned_about(
    module: Any, device: Device, network: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="not cached"):
        engine = opened(network, cache_path=str(tmp_path / "file" / "step"))
    run(engine, inputs())


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


# --- the library --------------------------------------------------------------


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, network: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(Library, "_one", None)
    with pytest.raises(BackendError, match=r"hoirt\[tensorrt\]"):
        Backend().open_engine(str(network), device=DEVICE)
    assert r"hoirt[tensorrt]" in Backend().obstacle(None, device=DEVICE, precision="fp16")  # type: ignore[arg-type]
    assert "not on cpu" in Backend().obstacle(None, device="cpu", precision="fp16")  # type: ignore[arg-type]


def test_an_unknown_major_version_is_refused(monkeypatch: pytest.MonkeyPatch, network: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt.make("12.0.0"))
    monkeypatch.setattr(Library, "_one", None)
    with pytest.raises(BackendError, match=r"12\.0\.0 is not known; 10 and 11 are"):
        Backend().open_engine(str(network), device=DEVICE)


def test_what_the_backend_says_of_itself(
    module: Any, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Backend()
    assert backend.name == "tensorrt" and backend.devices == ("cuda",)
    assert backend.precisions(DEVICE) == ["bf16", "fp16", "fp32"]
    assert backend.model(DEVICE) == "Fake GPU"
    assert backend.version == module.__version__
    assert backend.obstacle(None, device=DEVICE, precision="fp16") == ""  # type: ignore[arg-type]
