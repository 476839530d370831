"""The backend tensorrt against a stand-in for the library: builds, the cache, errors."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import fake_tensorrt
import pytest
from hoirt import BackendError, Cancelled, CancelToken, InputError, OutOfMemory, PackError
from hoirt.backends import interface, networks, registry
from hoirt.backends.choice import Choice
from hoirt.backends.devices import open_device
from hoirt.backends.networks import open_network
from hoirt.backends.tensorrt import Backend
from hoirt.backends.tensorrt import backend as backend_module
from hoirt.backends.tensorrt.library import Library
from hoirt.packs import open_pack
from tensorrt_tools import AROUND, DEVICE, Device, inputs, opened, run

pytest_plugins = ["tensorrt_tools"]


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


def test_the_registry_has_it(module: Any, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name where the package is found; first on a GPU; and as a backend of the interface's type."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: object())
    monkeypatch.setattr(registry, "_loaded", {})
    backend: interface.Backend = registry.load("tensorrt")
    assert backend.name == "tensorrt" and not backend.keyed_by_threads
    assert registry.automatic("cuda")[0] == "tensorrt" and "tensorrt" not in registry.automatic("cpu")


def test_a_pack_is_opened_by_the_choice_of_a_gpu(
    module: Any, device: Device, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every network of the bundled pack, with the profiles of the pack; each is built once."""
    pack = open_pack("handrefiner-tiny")
    asked: list[str] = []
    monkeypatch.setattr(networks, "open_device", lambda name: asked.append(name) or open_device("cpu"))
    choice = Choice(Backend(), DEVICE, "fp16")
    opened_engines: dict[str, Any] = {}
    monkeypatch.setattr(backend_module, "network_of", lambda engine, device: engine)
    for _ in range(2):
        for role in ("step", "hint", "time", "vae_decoder"):
            opened_engines[role] = open_network(pack, role, choice)
    assert module.fake.calls.count("build_serialized_network") == 4
    assert asked == [DEVICE] * 8  # while they are opened nothing is recorded there
    step = opened_engines["step"]
    assert step.precision == "fp16" and opened_engines["time"].precision == "fp32"
    assert [p["sample"][1] for p in step.profiles] == [(2, 4, 32, 32)] * 2
    assert step.profiles[1]["sample"][2] == (8, 4, 64, 64)
