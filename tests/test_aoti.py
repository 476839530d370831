"""Packages of the aoti backend: compiled and run on the CPU; what is refused as it is machine code."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hoirt
import numpy as np
import pytest
import torch
from fake_torch_cuda import FakeCuda
from hoirt import BackendError, InputError, backends
from hoirt.backends import cache, choose
from hoirt.backends.aoti import runtime, store
from hoirt.backends.aoti.runtime import Runner
from hoirt.backends.networks import cache_path
from hoirt.cli.main import main
from hoirt.packs import open_pack
from network_inputs import inputs_of
from numpy.typing import NDArray
from onnx import helper
from onnx_models import reference, save, value

from export.aoti import compile as compiling
from export.aoti import pack as packing
from export.aoti.graph import read_graph
from export.aoti.pack import Options, compile_network, compile_pack
from export.aoti.rewrite import rewrite
from export.aoti.shapes import Extents

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for the CPU with g++")
Arrays = dict[str, NDArray[Any]]
EXTENTS = Extents(16, 24, 4)


def tiny_step(path: Path) -> Path:
    """A step with a control network (one convolution of the hint), an encoder and a decoder."""
    random = np.random.default_rng(0)
    weights = {f"w{i}": random.standard_normal((4, 4, 3, 3)).astype(np.float32) / 6 for i in range(3)}
    weights["column"] = np.array([-1, 1, 1, 1], np.int64)
    nodes = [
        helper.make_node("Add", ["sample", "hint"], ["s"]),
        helper.make_node("Conv", ["s", "w0"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["control_scale", "column"], ["scale"]),
        helper.make_node("Mul", ["c", "scale"], ["residual"]),
        helper.make_node("Conv", ["sample", "w1"], ["e"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["e", "residual"], ["d"]),
        helper.make_node("Conv", ["d", "w2"], ["prediction"], pads=[1, 1, 1, 1]),
    ]
    inputs = [value(name, ["N", 4, "h", "w"]) for name in ("sample", "hint")]
    outputs = [value("prediction", ["N", 4, "h", "w"])]
    return save(path, nodes, [*inputs, value("control_scale", ["N"])], outputs, weights, opset=20)


def step_inputs(batch: int) -> Arrays:
    random = np.random.default_rng(batch)
    pictures = {n: random.standard_normal((batch, 4, 4, 6)).astype(np.float32) for n in ("sample", "hint")}
    return {**pictures, "control_scale": np.linspace(0.4, 1, batch, dtype=np.float32)}


@pytest.fixture(scope="module")
def step(home: Path) -> Path:
    return tiny_step(home / "step.onnx")


@pytest.fixture(scope="module")
def compiled(step: Path) -> Path:
    """The folder of the tiny step's packages: any batch, in three parts."""
    folder = cache.folder()
    assert folder is not None
    made = folder / "aoti-step"
    graph = rewrite(read_graph(step))
    done = compile_network("step", graph, made, "cpu", "fp32", EXTENTS, Options(streams=2))
    assert done.seconds > 0 and done.bytes == sum(path.stat().st_size for path in made.glob("*.pt2"))
    return made


@pytest.fixture
def copied(compiled: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A copy of the packages, in a cache of its own, to damage."""
    monkeypatch.setenv("HOIRT_CACHE", str(tmp_path))
    return Path(shutil.copytree(compiled, tmp_path / "networks" / compiled.name))


def open_step(folder: Path, step: Path, **options: Any) -> Any:
    return backends.load("aoti").open(str(step), cache_path=str(folder), **options)


def test_three_parts_run_for_any_batch(compiled: Path, step: Path) -> None:
    assert len(list(compiled.glob("*.pt2"))) == 3 and len(list(compiled.iterdir())) == 4
    network = open_step(compiled, step)
    ports = [(p.name, p.shape) for p in network.inputs]
    assert ports == [("sample", (-1,) * 4), ("hint", (-1,) * 4), ("control_scale", (-1,))]
    for batch in (1, 2, 5):
        given = step_inputs(batch)
        np.testing.assert_allclose(
            network.run(given)["prediction"], reference(step, given)[0], rtol=1e-5, atol=1e-5
        )


def test_outputs_in_place_threads_and_bfloat16_views(compiled: Path, step: Path) -> None:
    run = Runner(compiled, store.read_all(compiled), "cpu", "step.onnx")
    given = step_inputs(2)
    expected = reference(step, given)[0]
    place = np.full_like(expected, np.nan)
    for array in given.values():
        array.flags.writeable = False  # as the engine's views may be
    assert run(given, {"prediction": place}, 0) == {}
    np.testing.assert_allclose(place, expected, rtol=1e-5, atol=1e-5)
    made = run(given, {"prediction": None}, 0)
    assert made is not None and np.array_equal(np.from_dlpack(made["prediction"]), place)
    halves = np.zeros(expected.shape, np.uint16)
    run(given, {"prediction": halves}, 0)
    rounded = torch.from_numpy(place).bfloat16().view(torch.uint16).numpy()
    np.testing.assert_array_equal(halves, rounded)
    network = open_step(compiled, step)
    batches = [step_inputs(batch) for batch in (1, 2, 3, 4) * 3]
    alone = [network.run(item)["prediction"] for item in batches]
    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(pool.map(network.run, batches), alone, strict=True):
            np.testing.assert_array_equal(found["prediction"], wanted)


def test_other_shapes_are_refused_with_the_command(compiled: Path, step: Path) -> None:
    network = open_step(compiled, step)
    given = {**step_inputs(1), "sample": np.zeros((1, 4, 8, 8), np.float32)}
    with pytest.raises(InputError, match=r"step\.onnx is not compiled .*\(1, 4, 8, 8\).*--size"):
        network.run(given)
    with pytest.raises(BackendError, match="hoirt pack compile"):
        open_step(compiled, step, shapes={"sample": (2, 4, 8, 8)})


def test_the_command_compiles_what_is_missing(
    home: Path, random_pack: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One network of a real pack, in bfloat16."""
    given = ["pack", "compile", str(random_pack), "--device", "cpu", "--precision", "bf16"]
    given += ["--size", "32x64", "--role", "context"]
    assert main(given) == 0
    told = capsys.readouterr()
    assert "context (1 of 1), bf16, 32x64, any batch" in told.err and "1 packages" in told.out
    assert main(given) == 0
    assert "there already" in capsys.readouterr().err
    pack, backend = open_pack(random_pack), backends.load("aoti")
    path = cache_path(pack, "context", backend, device="cpu", precision="bf16")
    network = backend.open(str(pack.network_file("context")), cache_path=path, precision="bf16")
    exact = backends.load("onnxruntime").open(str(pack.network_file("context")))
    given = inputs_of(exact, height=32, width=64, batch=3)
    found, expected = network.run(given)["context"], exact.run(given)["context"]
    assert found.dtype == np.float32
    assert 1e-4 < np.linalg.norm(found - expected) / np.linalg.norm(expected) < 0.02
    # The other networks are not there, and the reason names them and the command.
    with pytest.raises(BackendError, match=r"no package for .*step.*hoirt pack compile .* --precision bf16"):
        choose("cpu", "aoti", pack=pack, precision="bf16")
    with pytest.raises(BackendError, match="hoirt pack compile"):
        hoirt.Refiner(random_pack, device="cpu", backend="aoti", precision="bf16")
    assert choose("cpu", pack=pack).backend.name == "openvino"


def test_nothing_is_left_of_what_was_interrupted(
    random_pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOIRT_CACHE", str(tmp_path))
    files_then: list[Path] = []

    def stopped(graph: Any, shapes: Any, out: Path, **options: Any) -> None:
        out.write_bytes(b"half")
        files_then.extend(path for path in tmp_path.rglob("*") if path.is_file())
        raise KeyboardInterrupt

    monkeypatch.setattr(packing, "compile_graph", stopped)
    with pytest.raises(KeyboardInterrupt):
        compile_pack(random_pack, Options(device="cpu", roles=("hint",)))
    assert len(files_then) == 1 and not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_failures_of_torch_are_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: Path) -> None:
    def broken(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("g++ is on strike\n" + "stack\n" * 100)

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", broken)
    graph = rewrite(read_graph(step))
    shapes = {port.name: EXTENTS.of(port) for port in graph.inputs}
    with pytest.raises(
        BackendError, match="cannot compile the graph: RuntimeError: g\\+\\+ is on strike"
    ) as told:
        compiling.compile_graph(graph, shapes, tmp_path / "x.pt2")
    assert len(str(told.value)) < 400


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (Options(device="cuda:9"), BackendError),
        (Options(device="abacus"), InputError),
        (Options(device="cpu", precision="int8"), InputError),
        (Options(device="cpu", roles=("nothing",)), InputError),
        (Options(device="cpu", roles=("step",), size=(30, 64)), InputError),
        (Options(device="cpu", roles=("step",), batch=0), InputError),
        (Options(device="cpu", roles=("step",), streams=3), InputError),
    ],
)
def test_wrong_options(options: Options, kind: type[Exception], home: Path, random_pack: Path) -> None:
    with pytest.raises(kind):
        compile_pack(random_pack, options)


def test_wrong_sizes_on_the_command_line(random_pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("64", "64x", "x64", "-64x64", "64x64x64", "axb"):
        assert main(["pack", "compile", str(random_pack), "--size", text]) != 0
        assert "--size" in capsys.readouterr().err


def test_without_a_cache_there_are_no_packages(
    step: Path, random_pack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOIRT_CACHE", "")
    with pytest.raises(BackendError, match="turned off"):
        open_step(Path("anywhere"), step)
    with pytest.raises(BackendError, match="no cache"):
        compile_pack(random_pack, Options(device="cpu", roles=("hint",)))


# What lies in the cache may have been damaged, or not be ours. Nothing of it may run.


def first(folder: Path, pattern: str) -> Path:
    return sorted(folder.glob(pattern))[0]


@pytest.mark.parametrize("how", ["empty", "short", "long", "flipped", "text"])
def test_damaged_packages(copied: Path, step: Path, how: str) -> None:
    path = first(copied, "*.pt2")
    data = path.read_bytes()
    changed = {
        "empty": b"",
        "short": data[:-100],
        "long": data + b"\0",
        "flipped": data[:1000] + bytes([data[1000] ^ 1]) + data[1001:],
        "text": b"import os",
    }
    path.write_bytes(changed[how])
    with pytest.raises(BackendError, match=r"is damaged; compile it again"):
        open_step(copied, step)


def test_foreign_file_with_the_right_hash(copied: Path, step: Path) -> None:
    path, described = first(copied, "*.pt2"), first(copied, "*.json")
    path.write_bytes(b"PK\3\4 not a package of torch")
    data = json.loads(described.read_text())
    part = store.part_of(path, (), ())
    next(p for p in data["parts"] if p["file"] == path.name).update(bytes=part.bytes, sha256=part.sha256)
    described.write_text(json.dumps(data))
    with pytest.raises(BackendError, match="torch cannot load this package"):
        open_step(copied, step)


def test_package_of_another_key(copied: Path, step: Path) -> None:
    other = copied.rename(copied.with_name("aoti-other"))
    with pytest.raises(BackendError, match=r"made for another network.*'aoti-step'"):
        open_step(other, step)


def test_packages_outside_of_the_cache(copied: Path, step: Path, tmp_path: Path) -> None:
    beside = Path(shutil.copytree(copied, tmp_path / "pack" / copied.name))
    for path in (beside, copied / ".." / ".." / "pack" / copied.name, step.parent):
        with pytest.raises(BackendError, match="not in hoirt's cache"):
            open_step(path, step)


def test_links_and_files_that_others_may_write(copied: Path, step: Path, tmp_path: Path) -> None:
    path, described = first(copied, "*.pt2"), first(copied, "*.json")
    for target in (path, described, copied, copied.parent):
        mode = target.stat().st_mode
        for wide in (0o020, 0o002):
            target.chmod(mode | wide)
            with pytest.raises(BackendError, match="other users"):
                open_step(copied, step)
        target.chmod(mode)
    elsewhere = path.rename(tmp_path / "elsewhere.pt2")
    path.symlink_to(elsewhere)
    with pytest.raises(BackendError, match="is a link"):
        open_step(copied, step)


def test_somebody_elses_files(copied: Path, step: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    with pytest.raises(BackendError, match="other users"):
        open_step(copied, step)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: [],
        lambda data: {},
        lambda data: {**data, "format": 2},
        lambda data: {**data, "parts": []},
        lambda data: {**data, "more": 1},
        lambda data: {**data, "inputs": [{"name": "x"}]},
        lambda data: {**data, "parts": [{**data["parts"][0], "file": "../../evil.pt2"}]},
        lambda data: {**data, "parts": [{**data["parts"][0], "file": "/evil.pt2"}]},
        lambda data: {**data, "parts": [{**data["parts"][0], "file": "evil.so"}]},
    ],
)
def test_damaged_descriptions(copied: Path, step: Path, change: Any) -> None:
    path = first(copied, "*.json")
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(BackendError, match="is damaged; delete it"):
        open_step(copied, step)
    for text in ("", "{", "\xff", "[" * 100000):
        path.write_text(text, encoding="latin-1")
        with pytest.raises(BackendError, match="is damaged; delete it"):
            open_step(copied, step)


def test_missing_torch_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from hoirt.backends import registry
    from hoirt.cli import compile as command

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    monkeypatch.setattr(registry, "_loaded", {})
    with pytest.raises(BackendError, match=r"torch is not installed; pip install 'hoirt\[aoti\]'"):
        backends.load("aoti")
    assert backends.available()["aoti"].startswith("unavailable: ")
    with pytest.raises(BackendError, match=r"torch.*hoirt\[aoti\]"):
        command.load_compiler()


def test_clearing_the_cache_takes_the_packages(copied: Path) -> None:
    assert cache.prune(0) == 0 and copied.is_dir()  # they cannot be rebuilt silently, so age does not count
    assert cache.clear() == 1 and not copied.exists()


def test_two_streams_wait_for_each_other(compiled: Path, step: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order on a GPU, with torch.cuda played; the work itself is done on the CPU."""
    cuda = FakeCuda(monkeypatch)
    load = runtime._load

    class Told:
        def __init__(self, path: Path) -> None:
            self.number, self.loaded = path.stem[-1], load(path, "cpu")

        def run(self, given: Any) -> Any:
            cuda.calls.append(f"part {self.number} on {cuda.current}")
            return self.loaded.run(given)

    monkeypatch.setattr(runtime, "_load", lambda path, device: Told(path))
    run = Runner(compiled, store.read_all(compiled), "cuda:0", "step.onnx")
    given = step_inputs(2)
    for stream in (7, 7, 9):
        made = run(given, {"prediction": None}, stream)
        assert made is not None
        np.testing.assert_allclose(made["prediction"], reference(step, given)[0], rtol=1e-5, atol=1e-5)
    once = [
        "cuda:0/side waits for cuda:0/7",
        "part 0 on cuda:0/side",
        "part 1 on cuda:0/7",
        "cuda:0/7 waits for cuda:0/side",
        "part 2 on cuda:0/7",
    ]
    another = [text.replace("/7", "/9") for text in once]
    assert cuda.calls == ["pool", *once, *once, "pool", *another]
    cuda.calls.clear()
    run.free_idle([9])
    assert cuda.calls == ["cache emptied"]  # memory, not streams
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(
        torch._C, "_cuda_clearCublasWorkspaces", lambda: cuda.calls.append("all"), raising=False
    )
    gc.collect()  # runners of other tests
    del run
    assert cuda.calls[1:] == ["all", "side closed", "side closed", "cache emptied"]
