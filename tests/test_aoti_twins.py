"""What both halves of a guided batch have in common is computed once in packages, and is the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aoti_tools import run
from hoirt import BackendError, InputError, _core, backends
from hoirt.backends import cache
from hoirt.backends.aoti import store
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
from export.aoti.twins import BOTH, FEW, are_alike, share_twins, twins_of

TWINS = ("sample", "time")
SIDE = 16
Arrays = dict[str, NDArray[np.float32]]


def text_step(path: Path, layers: int = FEW, perm: tuple[int, ...] = (0, 1, 2, 3), output: str = "") -> Path:
    """`layers` convolutions of what both halves have in common, then the context. `perm`: before that."""
    random = np.random.default_rng(0)
    weights: dict[str, NDArray[Any]] = {
        f"w{i}": random.standard_normal((4, 4, 1, 1)).astype(np.float32) / 2 for i in range(layers + 1)
    }
    weights["axes"] = np.array([2, 3], np.int64)
    nodes = [helper.make_node("Unsqueeze", ["time", "axes"], ["t"])]
    for i in range(layers):
        nodes += [
            helper.make_node("Conv", [f"x{i}" if i else "sample", f"w{i}"], [f"c{i}"]),
            helper.make_node("Add", [f"c{i}", "t"], [f"a{i}"]),
            helper.make_node("Tanh", [f"a{i}"], [f"x{i + 1}"]),
        ]
    back = np.argsort(perm).tolist()
    nodes += [
        helper.make_node("Transpose", [f"x{layers}"], ["turned"], perm=perm),
        helper.make_node("Shape", ["turned"], ["shape"]),
        helper.make_node("Unsqueeze", ["context", "axes"], ["text"]),
        helper.make_node("Transpose", ["text"], ["turned text"], perm=perm),
        helper.make_node("Expand", ["turned text", "shape"], ["expanded"]),
        helper.make_node("Add", ["turned", "expanded"], ["sum"]),
        helper.make_node("Transpose", ["sum"], ["straight"], perm=back),
        helper.make_node("Conv", ["straight", f"w{layers}"], ["prediction"]),
    ]
    pictures = [value("sample", ["N", 4, "h", "w"]), value("time", ["N", 4])]
    outputs = [
        value("prediction", ["N", 4, "h", "w"]),
        *([value(output, ["N", 4, "h", "w"])] if output else []),
    ]
    return save(path, nodes, [*pictures, value("context", ["N", 4])], outputs, weights, opset=20)


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
    return [
        node.inputs[0]
        for node in made.nodes
        if node.op == "Concat" and set(node.outputs) == {node.inputs[0] + BOTH}
    ]


def test_what_is_not_worth_it_or_cannot_be_doubled(tmp_path: Path) -> None:
    def of(**options: Any) -> Graph:
        return rewrite(read_graph(text_step(tmp_path / "net.onnx", **options)))

    extents = Extents(4 * SIDE, 4 * SIDE, 4, 4, TWINS)
    share(of(), set(TWINS), 4)
    for graph in (of(layers=FEW - 1), of(output="x3"), of(perm=(1, 0, 2, 3))):
        made, found = shared(graph, extents)
        assert made is graph and found.twins == () and found.batch == 4
    turned = share_twins(of(perm=(1, 0, 2, 3)), TWINS)
    shapes = {"sample": (2, 4, 3, 3), "time": (2, 4)}
    assert turned is not None and not are_alike(graph, turned, shapes)


@pytest.fixture(scope="module")
def compiled(home: Path) -> tuple[Path, Path]:
    """The step, and the folder of its packages: any batch, and one guided picture."""
    if shutil.which("g++") is None:
        pytest.skip("torch compiles for the CPU with g++")
    path = text_step(home / "step.onnx")
    folder = cache.folder()
    assert folder is not None
    graph = rewrite(read_graph(path))
    for extents in (Extents(4 * SIDE, 4 * SIDE, 4), Extents(4 * SIDE, 4 * SIDE, 4, 2, TWINS)):
        made, extents = shared(graph, extents)
        compile_network("step", made, folder / "aoti-twins", "cpu", "fp32", extents, Options())
    return path, folder / "aoti-twins"


def open_step(compiled: tuple[Path, Path], shapes: Any = None) -> Any:
    return backends.load("aoti").open(str(compiled[0]), cache_path=str(compiled[1]), shapes=shapes)


def latents(network: Any, batch: int, steps: int = 6, **more: Any) -> NDArray[np.float32]:
    """x' = the guided prediction, for some steps without guidance."""
    random = np.random.default_rng(0)

    def normal(*shape: int) -> NDArray[np.float32]:
        return random.standard_normal(shape).astype(np.float32)

    guidance = np.where(np.arange(steps) % 3 == 1, 1, 2.5)
    loop = _core.DenoiseLoop(network, timestep=None, control=None)
    result = loop.run(
        table(steps, B=1, D=1, init_signal=1.0, init_noise=0.0, guidance=guidance),
        shape=(batch, 4, SIDE, SIDE),
        seeds=list(range(batch)),
        initial=normal(batch, 4, SIDE, SIDE),
        condition={"context": normal(batch, 4)},
        uncondition={"context": normal(1, 4)},
        per_step={"time": normal(steps, 4)},
        **more,
    )
    return np.asarray(result.latents)


@pytest.mark.parametrize("batch", [1, 3])
def test_packages_in_the_loop(compiled: tuple[Path, Path], batch: int) -> None:
    """One picture by the package that shares, three by the one for any batch, whose twins are doubled."""
    network = open_step(compiled)
    assert network.twins == list(TWINS)
    reference = backends.load("onnxruntime").open(str(compiled[0]))
    assert reference.twins == []
    wanted = latents(reference, batch)
    np.testing.assert_allclose(latents(network, batch), wanted, rtol=1e-4, atol=1e-4)
    strange = {"per_step_uncondition": {"time": np.ones((6, 4), np.float32)}}  # so they are no twins
    wanted = latents(reference, batch, **strange)
    np.testing.assert_allclose(latents(network, batch, **strange), wanted, rtol=1e-4, atol=1e-4)


def test_halves_that_differ_need_a_package_of_their_own(compiled: tuple[Path, Path]) -> None:
    """The one that shares takes equal halves alone, given once."""
    network = open_step(compiled, {"sample": (1, 4, SIDE, SIDE), "context": (2, 4)})
    random = np.random.default_rng(0)
    given = {name: random.standard_normal((2, 4)).astype(np.float32) for name in ("time", "context")}
    given["sample"] = random.standard_normal((2, 4, SIDE, SIDE)).astype(np.float32)
    half = given | {name: given[name][:1] for name in TWINS}
    whole = given | {name: np.repeat(half[name], 2, axis=0) for name in TWINS}
    wanted = backends.load("onnxruntime").open(str(compiled[0])).run(whole)["prediction"]
    np.testing.assert_allclose(network.run(half)["prediction"], wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match=r"not compiled for inputs of the shapes .*hoirt pack compile"):
        network.run(given)
    with pytest.raises(InputError, match="not compiled"):  # nor can every input be a half
        open_step(compiled).run(given | {"context": given["context"][:1]})


def test_free_extents_are_the_same_in_all_inputs(compiled: tuple[Path, Path]) -> None:
    values = (store.Value("a", (-1, 4), "float32"), store.Value("b", (-1,), "float32"))
    package = store.Package("key", values, (), ())
    assert package.fits({"a": (2, 4), "b": (2,)}) and package.fits({"a": (-1, 4), "b": (2,)})
    assert not package.fits({"a": (2, 4), "b": (3,)}) and not package.fits({"a": (2, 4), "b": (2, 1)})


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
