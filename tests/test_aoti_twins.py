"""What both halves of a guided batch have in common is computed once in packages, and is the same."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aoti_tools import run
from hoirt import BackendError, InputError, _core, backends
from hoirt.backends import cache
from hoirt.backends.aoti import store
from hoirt.backends.aoti.runtime import open_packages
from hoirt.packs import open_pack
from loop_tools import table
from numpy.typing import NDArray
from onnx import helper
from onnx_models import save, value
from torch import Tensor

from export.aoti.graph import Graph, read_graph
from export.aoti.pack import Options, compile_network, shared
from export.aoti.rewrite import rewrite
from export.aoti.shapes import Extents
from export.aoti.split import HEAVY, split
from export.aoti.twins import FEW, REPEAT, are_alike, share_twins, twins_of

TWINS = ("hint", "sample", "time")
SIDE = 16


def text_step(path: Path, layers: int = FEW, perm: tuple[int, ...] = (0, 1, 2, 3), output: str = "") -> Path:
    """ControlNet and UNet: each some of `layers` convolutions of what both halves have in common, and then
    the context. `perm`: before that."""
    random = np.random.default_rng(0)
    weights: dict[str, NDArray[Any]] = {"axes": np.array([2, 3], np.int64), "column": np.array([-1, 1, 1, 1])}
    nodes = [
        helper.make_node("Unsqueeze", ["time", "axes"], ["t"]),
        helper.make_node("Unsqueeze", ["context", "axes"], ["text"]),
        helper.make_node("Transpose", ["text"], ["turned text"], perm=perm),
        helper.make_node("Reshape", ["control_scale", "column"], ["scale"]),
    ]

    def convolution(source: str, target: str) -> Any:
        weights[f"w {target}"] = random.standard_normal((4, 4, 1, 1)).astype(np.float32) / 2
        return helper.make_node("Conv", [source, f"w {target}"], [target])

    def part(name: str, source: str, count: int) -> None:
        for i in range(count):
            nodes.extend(
                [
                    convolution(f"{name}{i}" if i else source, f"{name} c{i}"),
                    helper.make_node("Add", [f"{name} c{i}", "t"], [f"{name} a{i}"]),
                    helper.make_node("Tanh", [f"{name} a{i}"], [f"{name}{i + 1}"]),
                ]
            )
        nodes.extend(
            [
                helper.make_node("Transpose", [f"{name}{count}"], [f"{name} turned"], perm=perm),
                helper.make_node("Shape", [f"{name} turned"], [f"{name} shape"]),
                helper.make_node("Expand", ["turned text", f"{name} shape"], [f"{name} expanded"]),
                helper.make_node("Add", [f"{name} turned", f"{name} expanded"], [f"{name} sum"]),
                helper.make_node(
                    "Transpose", [f"{name} sum"], [f"{name} straight"], perm=np.argsort(perm).tolist()
                ),
                convolution(f"{name} straight", f"{name} made"),
            ]
        )

    part("unet", "sample", layers // 2)
    part("control", "hint", layers - layers // 2)
    nodes += [
        helper.make_node("Mul", ["control made", "scale"], ["residual"]),
        helper.make_node("Add", ["unet made", "residual"], ["sum"]),
        convolution("sum", "prediction"),
    ]
    inputs = [value(name, ["N", 4, "h", "w"]) for name in ("sample", "hint")]
    inputs += [value("time", ["N", 4]), value("context", ["N", 4]), value("control_scale", ["N"])]
    outputs = [value(name, ["N", 4, "h", "w"]) for name in ("prediction", output) if name]
    return save(path, nodes, inputs, outputs, weights, opset=20)


def halves_and_whole(graph: Graph, extents: Extents, twins: set[str]) -> tuple[dict[str, Tensor], ...]:
    """Random inputs, the twins with half of the items and doubled."""
    torch.manual_seed(0)
    half = {port.name: torch.randn(extents.of(port)) for port in graph.inputs}
    return half, {name: torch.cat([x, x]) if name in twins else x for name, x in half.items()}


def count(graph: Graph) -> int:
    return sum(node.op in HEAVY for node in graph.nodes)


def share(graph: Graph, twins: set[str], batch: int) -> Graph:
    """Checked against the graph itself, which sees both halves."""
    names = tuple(sorted(twins.intersection(port.name for port in graph.inputs)))
    extents = Extents(4 * SIDE, 4 * SIDE, 4, batch, names)
    made, found = shared(graph, extents)
    assert found == extents and count(made) == count(graph)
    assert shared(graph, replace(extents, batch=None))[0] == made
    half, whole = halves_and_whole(graph, extents, set(names))
    for name, wanted in run(graph, whole).items():
        torch.testing.assert_close(run(made, half)[name], wanted, rtol=1e-5, atol=1e-5)
    return made


@pytest.mark.parametrize("role", ["step", "step_keep", "step_reuse_control"])
def test_steps_of_the_bundled_pack(role: str) -> None:
    pack = open_pack("handrefiner-tiny")
    graph = rewrite(read_graph(pack.network_file(role)))
    twins = twins_of(pack, role)
    made = share(graph, set(twins), 6)
    before = sum(node.op in HEAVY for node in graph.needed(_doubled(made)))
    assert before >= 0.2 * count(graph)
    if role == "step_reuse_control":
        return
    parts = split(made)
    assert sum(map(count, parts)) == count(graph)
    half, _ = halves_and_whole(graph, Extents(4 * SIDE, 4 * SIDE, 4, 6, twins), set())
    handed = {**run(parts[0], half), **run(parts[1], half)}
    assert {len(x) for x in handed.values()} == {6}
    found, wanted = run(parts[2], {**half, **handed}), run(made, half)
    for name in found:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-5, atol=1e-5)


def _doubled(made: Graph) -> list[str]:
    return [node.inputs[0] for node in made.nodes if node.op == REPEAT]


def test_what_is_not_worth_it_or_cannot_be_doubled(tmp_path: Path) -> None:
    def of(**options: Any) -> Graph:
        return rewrite(read_graph(text_step(tmp_path / "net.onnx", **options)))

    extents = Extents(4 * SIDE, 4 * SIDE, 4, 4, TWINS)
    share(of(), set(TWINS), 4)
    for graph in (of(layers=FEW - 1), of(output="unet2"), of(perm=(1, 0, 2, 3))):
        made, found = shared(graph, extents)
        assert made is graph and found.twins == () and found.batch == 4
    turned = share_twins(of(perm=(1, 0, 2, 3)), TWINS)
    assert turned is not None and not are_alike(graph, turned, extents)
    every = [port.name for port in graph.inputs]
    assert share_twins(graph, every) is None  # nothing says how many items there are


@pytest.fixture(scope="module")
def compiled(home: Path) -> tuple[Path, Path]:
    """The step, and the folder of its packages: any batch, in three parts and in one; one guided picture."""
    if shutil.which("g++") is None:
        pytest.skip("torch compiles for the CPU with g++")
    path = text_step(home / "step.onnx")
    folder = cache.folder()
    assert folder is not None
    folder /= "aoti-twins"
    graph = rewrite(read_graph(path))
    for batch, streams in ((None, 2), (None, 1), (2, 1)):
        made, extents = shared(graph, Extents(4 * SIDE, 4 * SIDE, 4, batch, TWINS))
        compile_network("step", made, folder, "cpu", "fp32", extents, Options(streams=streams))
    return path, folder


def open_step(compiled: tuple[Path, Path]) -> Any:
    return backends.load("aoti").open(str(compiled[0]), cache_path=str(compiled[1]))


def latents(network: Any, batch: int, steps: int = 6, **more: Any) -> NDArray[np.float32]:
    """x' = the guided prediction, for some steps without guidance."""
    random = np.random.default_rng(0)

    def normal(*shape: int) -> NDArray[np.float32]:
        return random.standard_normal(shape).astype(np.float32)

    guidance = np.where(np.arange(steps) % 3 == 1, 1, 2.5)
    loop = _core.DenoiseLoop(network, timestep=None, control="control_scale")
    result = loop.run(
        table(steps, B=1, D=1, init_signal=1.0, init_noise=0.0, guidance=guidance),
        shape=(batch, 4, SIDE, SIDE),
        seeds=list(range(batch)),
        initial=normal(batch, 4, SIDE, SIDE),
        condition={"context": normal(batch, 4), "hint": normal(batch, 4, SIDE, SIDE)},
        uncondition={"context": normal(1, 4)},
        per_step={"time": normal(steps, 4)},
        **more,
    )
    return np.asarray(result.latents)


@pytest.mark.parametrize("batch", [1, 3])
def test_packages_in_the_loop(compiled: tuple[Path, Path], batch: int) -> None:
    """One picture by the package for it, three by the one for any batch; halves that differ by the latter."""
    network = open_step(compiled)
    assert network.twins == list(TWINS)
    reference = backends.load("onnxruntime").open(str(compiled[0]))
    assert reference.twins == []
    wanted = latents(reference, batch)
    np.testing.assert_allclose(latents(network, batch), wanted, rtol=1e-4, atol=1e-4)
    strange = {"per_step_uncondition": {"time": np.ones((6, 4), np.float32)}}  # so they are no twins
    wanted = latents(reference, batch, **strange)
    np.testing.assert_allclose(latents(network, batch, **strange), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("free", "parts"), [(True, 3), (True, 1), (False, 1)])
def test_each_package_alone(compiled: tuple[Path, Path], free: bool, parts: int) -> None:
    """Halves that are alike are given once. Others only the packages for any batch take."""
    path, folder = compiled
    found = [package for package in store.read_all(folder) if len(package.parts) == parts]
    packages = [package for package in found if (-1 in package.inputs[0].shape) == free]
    assert [set(package.twins) for package in packages] == [set(TWINS)]
    network = open_packages(folder, packages, "cpu", name="step")
    reference = backends.load("onnxruntime").open(str(path))
    random = np.random.default_rng(0)
    shapes = {port.name: (4, SIDE, SIDE)[: len(port.shape) - 1] for port in reference.inputs}
    given = {name: random.standard_normal((2, *shape)).astype(np.float32) for name, shape in shapes.items()}
    half = given | {name: given[name][:1] for name in TWINS}
    wanted = reference.run(given | {name: np.repeat(half[name], 2, axis=0) for name in TWINS})["prediction"]
    np.testing.assert_allclose(network.run(half)["prediction"], wanted, rtol=1e-4, atol=1e-5)
    if free:
        wanted = reference.run(given)["prediction"]
        np.testing.assert_allclose(network.run(given)["prediction"], wanted, rtol=1e-4, atol=1e-5)
    wrong = [half | {"sample": given["sample"]}, given | {"context": given["context"][:1]}]
    for inputs in wrong if free else [given, *wrong]:
        with pytest.raises(InputError, match=r"not compiled for inputs of the shapes .*hoirt pack compile"):
            network.run(inputs)


@pytest.mark.parametrize("newest", [1, 3])
def test_the_exact_package_is_first_though_it_is_oldest(
    newest: int, compiled: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(compiled[1], tmp_path / compiled[1].name))
    for path in folder.glob("*.json"):
        told = json.loads(path.read_text())
        free = -1 in told["inputs"][0]["shape"]
        os.utime(path, (0, free * (1 + (len(told["parts"]) == newest))))
    packages = store.read_all(folder)
    assert [-1 in package.inputs[0].shape for package in packages] == [False, True, True]
    assert len(packages[1].parts) == newest


def test_which_extents_fit() -> None:
    """Free ones are the same in all inputs; twins may have half of it, all of them."""
    values = tuple(store.Value(name, (-1, 4), "float32") for name in "abc")

    def fits(a: int, b: int, c: int, twins: tuple[str, ...] = ()) -> bool:
        return store.Package("key", values, (), (), 1, twins).fits({"a": (a, 4), "b": (b, 4), "c": (c, 4)})

    assert fits(2, 2, 2) and fits(-1, 2, -1) and not fits(2, 3, 2) and not fits(2, 1, 2)
    assert fits(2, 2, 4, ("a", "b")) and fits(2, 2, 2, ("a", "b")) and fits(-1, -1, 3, ("a", "b"))
    assert fits(3, -1, -1, ("a", "b")) and fits(3, -1, 6, ("a", "b"))
    for wrong in ((2, 4, 4), (4, 4, 2), (2, 2, 6), (2, 2, 3), (-1, 2, 3)):
        assert not fits(*wrong, ("a", "b"))
    assert not store.Package("key", values, (), ()).fits({"a": (2, 4), "b": (2, 4), "c": (2,)})


@pytest.mark.parametrize("twins", [3, None, ["strange"], "sample"])
def test_damaged_twins(
    twins: object, compiled: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOIRT_CACHE", str(tmp_path))
    folder = Path(shutil.copytree(compiled[1], tmp_path / "networks" / compiled[1].name))
    for path in folder.glob("*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"twins": twins}))
    with pytest.raises(BackendError, match="damaged"):
        open_step((compiled[0], folder))
