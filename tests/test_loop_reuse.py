"""Rows of the native loop that run the shallow network on kept features, against the formulas in float64."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hoirt import BackendError, Cancelled, InputError, _core
from hypothesis import given, settings
from hypothesis import strategies as st
from loop_tools import Array, batch_normals, table, user_streams
from numpy.typing import NDArray

SHAPE = (2, 4, 3, 5)
SEEDS = [11, 2**63]
CONDITION, UNCONDITION = np.array([0.3, -0.4], np.float32), np.array([-0.1, 0.2], np.float32)
CONTROL = np.array([0.5, 0.9], np.float32)
Floats = NDArray[np.float32]
Port = _core.Port


def features(x: Array, t: Array, condition: Array, control: Array) -> tuple[Array, Array]:
    """What the deep part of the network computes: `deep` (N, 2, h, w) and `skip` (N, 4)."""
    shift = (t / 1000 + condition)[:, None, None, None]
    deep = np.tanh(x[:, :2] - shift) * (1 + control[:, None, None, None])
    return deep, np.sin(x).mean(axis=(2, 3)) + control[:, None]


def shallow(x: Array, t: Array, condition: Array, deep: Array, skip: Array) -> Array:
    """The prediction from the state and the features."""
    mixed = np.concatenate([deep, deep[:, ::-1]], axis=1) + skip[:, :, None, None]
    return np.tanh(0.6 * x + 0.3 * mixed + (0.1 * condition + t / 3000)[:, None, None, None])


FEATURES = [Port("deep", [-1, 2, -1, -1]), Port("skip", [-1, 4])]
COMMON = [Port("sample", [-1, 4, -1, -1]), Port("timestep", [-1]), Port("context", [-1])]
OUTPUT = Port("prediction", [-1, 4, -1, -1])


class Networks:
    """Both networks, and what they were run with: ("full" | "keep" | "reuse", batch)."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.full = _core.PythonNetwork(
            [*COMMON, Port("control_scale", [-1])], [OUTPUT, *FEATURES], self.run_full
        )
        self.reuse = _core.PythonNetwork([*COMMON, *FEATURES], [OUTPUT], self.run_reuse)

    def loop(self) -> _core.DenoiseLoop:
        return _core.DenoiseLoop(self.full, reuse=self.reuse)

    def run_full(self, inputs: Mapping[str, Floats]) -> dict[str, Floats]:
        x, t, c, scale = (inputs[k].astype(float) for k in ("sample", "timestep", "context", "control_scale"))
        self.calls.append(("full", len(x)))
        kept = [part.astype(np.float32) for part in features(x, t, c, scale)]  # as the loop keeps them
        out = shallow(x, t, c, *(part.astype(float) for part in kept))
        return {"prediction": out.astype(np.float32), "deep": kept[0], "skip": kept[1]}

    def run_reuse(self, inputs: Mapping[str, Floats]) -> dict[str, Floats]:
        x, t, c, deep, skip = (
            inputs[k].astype(float) for k in ("sample", "timestep", "context", "deep", "skip")
        )
        self.calls.append(("reuse", len(x)))
        return {"prediction": shallow(x, t, c, deep, skip).astype(np.float32)}


ARGUMENTS: dict[str, Any] = {
    "shape": SHAPE,
    "seeds": SEEDS,
    "control": CONTROL,
    "condition": {"context": CONDITION},
    "uncondition": {"context": UNCONDITION},
}


def random_state(seed: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(SHAPE, np.float32)


def expected(rows: SimpleNamespace, known: Floats | float = 0.0, mask: Floats | float = 1.0) -> Array:
    """The documented formulas one after another; features are kept per half."""
    noise = {stream: batch_normals(SEEDS, stream, SHAPE) for stream in user_streams(rows)}
    contexts = {"c": CONDITION.astype(float), "u": UNCONDITION.astype(float)}
    kept: dict[str, tuple[Array, Array]] = {}
    x, previous = rows.init_noise * noise[0], np.zeros(SHAPE)
    for i in range(len(rows.timestep)):
        t = np.full(SHAPE[0], rows.timestep[i])
        out: dict[str, Array] = {}
        for half in "c" if rows.guidance[i] == 1 else "cu":
            if not rows.reuse[i]:
                kept[half] = features(x, t, contexts[half], rows.control[i] * CONTROL.astype(float))
            out[half] = shallow(x, t, contexts[half], *kept[half])
        mixed = out["c"] if rows.guidance[i] == 1 else out["u"] + rows.guidance[i] * (out["c"] - out["u"])
        clean = rows.A[i] * x + rows.B[i] * mixed
        x = rows.C[i] * x + rows.D[i] * clean + rows.E[i] * previous
        if rows.F[i]:
            x = x + rows.F[i] * noise[1 + 2 * i]
        if rows.known[i]:
            fresh = rows.G[i] * np.asarray(known) + rows.H[i] * noise[2 + 2 * i]
            x = mask * x + (1 - np.asarray(mask)) * fresh
        previous = clean
    return np.asarray(x)


def steps(reuse: list[int], guidance: list[float], **more: Any) -> SimpleNamespace:
    columns: dict[str, Any] = {
        "A": 1,
        "B": -0.5,
        "C": 0.5,
        "D": 0.4,
        "timestep": np.linspace(900, 1, len(reuse)),
    }
    return table(len(reuse), reuse=np.array(reuse, bool), guidance=guidance, **(columns | more))


TABLES = {
    "guided": ([0, 1, 1, 0, 1], [3.0] * 5),
    "unguided": ([0, 1, 1, 0, 1], [1.0] * 5),
    "unguided rows go on from guided ones": ([0, 1, 1, 1, 0], [3.0, 2.0, 1.0, 1.0, 2.0]),
    "unguided first": ([0, 1, 0, 1, 1], [1.0, 1.0, 2.0, 2.0, 1.0]),
    "interval": ([0, 1, 0, 1, 0, 1], [1.0, 1.0, 2.0, 2.0, 1.0, 1.0]),
    "guided again": ([0, 1, 0, 1, 0, 1], [2.0, 1.0, 1.0, 1.0, 3.0, 2.0]),
    "never": ([0, 0, 0], [2.0, 1.0, 2.0]),
}


@pytest.mark.parametrize("name", TABLES)
def test_trajectories(name: str) -> None:
    rows = steps(*TABLES[name])
    networks = Networks()
    found = networks.loop().run(rows, **ARGUMENTS).latents
    np.testing.assert_allclose(found, expected(rows), rtol=1e-5, atol=2e-6)
    assert networks.calls == [
        ("reuse" if reuse else "full", 2 * SHAPE[0] if guidance != 1 else SHAPE[0])
        for reuse, guidance in zip(rows.reuse, rows.guidance, strict=True)
    ]


def test_noise_previous_x0_control_and_known_region() -> None:
    rows = steps(
        [0, 1, 1, 0, 1],
        [1.0, 1.0, 1.0, 2.0, 2.0],
        E=[0, 0.2, -0.1, 0.3, 0.1],
        F=[0.3, 0, 0.2, 0.1, 0],
        control=[1, 0.2, 0.3, 0.5, 0.7],  # a row with reuse keeps the strength of its full row
        G=[0.2, 0.4, 0.6, 0.8, 0],
        H=[0.8, 0.6, 0.4, 0.2, 0],
        known=np.array([1, 1, 1, 1, 0], bool),
    )
    mask = np.random.default_rng(4).random((2, 1, 3, 5), np.float32)
    found = Networks().loop().run(rows, known=random_state(1), mask=mask, **ARGUMENTS).latents
    np.testing.assert_allclose(found, expected(rows, random_state(1), mask), rtol=1e-5, atol=3e-6)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(st.booleans(), st.sampled_from([1.0, 2.5])), min_size=1, max_size=7))
def test_any_table_runs_as_written_or_is_refused(rows: list[tuple[bool, float]]) -> None:
    made = steps([int(reuse) for reuse, _ in rows], [guidance for _, guidance in rows])
    full = None
    for reuse, guidance in rows:
        full = full if reuse else guidance
        if full is None or (reuse and guidance != 1 and full == 1):
            with pytest.raises(InputError, match=r"step table: reuse\["):
                Networks().loop().run(made, **ARGUMENTS)
            return
    found = Networks().loop().run(made, **ARGUMENTS).latents
    np.testing.assert_allclose(found, expected(made), rtol=1e-5, atol=2e-6)


def test_without_such_rows_the_bits_are_those_of_the_plain_loop() -> None:
    rows = steps([0] * 6, [2.0, 1.0, 2.0, 2.0, 1.0, 1.0], F=0.1)
    plain = _core.DenoiseLoop(Networks().full).run(rows, **ARGUMENTS).latents
    np.testing.assert_array_equal(Networks().loop().run(rows, **ARGUMENTS).latents, plain)


def test_an_item_does_not_depend_on_its_neighbours() -> None:
    rows = steps(*TABLES["interval"])
    together = Networks().loop().run(rows, **ARGUMENTS).latents
    for i in range(2):
        one = slice(i, i + 1)
        alone = (
            Networks()
            .loop()
            .run(
                rows,
                shape=(1, *SHAPE[1:]),
                seeds=SEEDS[one],
                control=CONTROL[one],
                condition={"context": CONDITION[one]},
                uncondition={"context": UNCONDITION[one]},
            )
        )
        np.testing.assert_array_equal(alone.latents[0], together[i])


def test_threads_keep_their_features_apart() -> None:
    loop, rows = Networks().loop(), _core.StepTable.of(steps(*TABLES["guided again"]))
    seeds = [[i, i + 1] for i in range(4)]
    wanted = [loop.run(rows, **(ARGUMENTS | {"seeds": s})).latents for s in seeds]
    with ThreadPoolExecutor(4) as pool:
        jobs = list(range(40))
        found = list(
            pool.map(lambda i: loop.run(rows, **(ARGUMENTS | {"seeds": seeds[i % 4]})).latents, jobs)
        )
    assert all(np.array_equal(found[i], wanted[i % 4]) for i in jobs)


def test_cancelling_in_a_row_with_reuse() -> None:
    networks = Networks()
    loop, rows = networks.loop(), steps(*TABLES["guided"])
    wanted = loop.run(rows, **ARGUMENTS).latents
    networks.calls.clear()
    with pytest.raises(Cancelled, match="after step 1 of 5"):
        loop.run(rows, on_step=lambda info: info.step < 1, **ARGUMENTS)
    assert networks.calls == [("full", 4), ("reuse", 4)]
    token = _core.CancelToken()
    timer = threading.Thread(target=token.cancel)
    timer.start()
    timer.join()
    with pytest.raises(Cancelled, match="token"):
        loop.run(rows, cancel=token, **ARGUMENTS)
    np.testing.assert_array_equal(loop.run(rows, **ARGUMENTS).latents, wanted)


def test_features_are_told_and_read_only_where_they_are_needed() -> None:
    networks = Networks()
    assert networks.loop().features == ["deep", "skip"]
    assert _core.DenoiseLoop(networks.full).features == []


def made(inputs: list[Port], outputs: list[Port]) -> _core.PythonNetwork:
    return _core.PythonNetwork(inputs, outputs, dict)


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ([*COMMON, *FEATURES], [Port("eps", [-1, 4, -1, -1])], "reuse network has no output 'prediction'"),
        (
            [*COMMON, *FEATURES],
            [Port("prediction", [-1], "int64")],
            "'prediction' must hold float32, not int64",
        ),
        (COMMON, [OUTPUT], "takes no output of the network, which gives prediction, deep, skip"),
        (
            [*COMMON, Port("depp", [-1])],
            [OUTPUT],
            "takes 'depp', which is neither an input of the network, sample",
        ),
        ([*COMMON, OUTPUT], [OUTPUT], "takes 'prediction', the prediction itself"),
        ([*COMMON, Port("deep", [-1, 3, -1, -1])], [OUTPUT], "input 'deep' has another shape or dtype"),
        ([*COMMON, Port("deep", [-1, 2])], [OUTPUT], "input 'deep' has another shape or dtype"),
        (
            [*COMMON, Port("deep", [-1, 2, -1, -1], "int64")],
            [OUTPUT],
            "input 'deep' has another shape or dtype",
        ),
        ([*COMMON[:2], Port("context", [-1, 7]), *FEATURES], [OUTPUT], "input 'context' has another shape"),
    ],
)
def test_networks_that_do_not_fit(inputs: list[Port], outputs: list[Port], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _core.DenoiseLoop(Networks().full, reuse=made(inputs, outputs))


def test_a_table_with_reuse_needs_the_network() -> None:
    with pytest.raises(InputError, match="made without a reuse network"):
        _core.DenoiseLoop(Networks().full).run(steps(*TABLES["guided"]), **ARGUMENTS)


@pytest.mark.parametrize(
    ("reuse", "message"),
    [
        (np.array([1, 0, 0], bool), r"reuse\[0\] must be False"),
        (np.array([0, 2, 0]), "reuse must hold booleans"),
        (np.zeros(2, bool), "reuse has 2 rows, timestep has 3"),
        (np.array([0, 0, 1], bool), r"reuse\[2\] must be False: the row is guided, and row 1"),
    ],
)
def test_wrong_tables(reuse: NDArray[Any], message: str) -> None:
    rows = steps([0, 0, 0], [2.0, 1.0, 2.0])
    rows.reuse = reuse
    with pytest.raises(InputError, match=message):
        Networks().loop().run(rows, **ARGUMENTS)


def test_tables_without_the_column_still_run() -> None:
    rows = steps([0, 0], [2.0, 1.0])
    wanted = Networks().loop().run(rows, **ARGUMENTS).latents
    del rows.reuse
    np.testing.assert_array_equal(Networks().loop().run(rows, **ARGUMENTS).latents, wanted)
    assert not _core.StepTable.of(rows).reuse.any()


def test_features_of_the_wrong_batch_are_reported() -> None:
    def run(inputs: Mapping[str, Floats]) -> dict[str, Floats]:
        return {
            "prediction": inputs["sample"],
            "deep": inputs["sample"][:1, :2],
            "skip": inputs["sample"][..., 0, 0],
        }

    full = _core.PythonNetwork([*COMMON, Port("control_scale", [-1])], [OUTPUT, *FEATURES], run)
    loop = _core.DenoiseLoop(full, reuse=Networks().reuse)
    with pytest.raises(
        BackendError, match=r"'deep' must have 4 items on its first axis, not shape \(1, 2, 3, 5\)"
    ):
        loop.run(steps(*TABLES["guided"]), **ARGUMENTS)
