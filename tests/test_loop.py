"""The native denoise loop against independent float64 implementations."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hoirt import _core
from hypothesis import given, settings
from hypothesis import strategies as st
from loop_tools import (
    INITIAL_KNOWN,
    Array,
    batch_normals,
    network,
    reference,
    table,
    user_streams,
    wave,
)
from numpy.typing import NDArray

SHAPE = (2, 4, 6, 10)
SEEDS = [7, 2**64 - 1]
CONDITION, UNCONDITION = np.array([0.3, -0.4], np.float32), np.array([-0.1, 0.2], np.float32)
CONTROL = np.array([0.5, 0.9], np.float32)


def random_state(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def soft_mask() -> np.ndarray[Any, np.dtype[np.float32]]:
    mask = np.random.default_rng(3).uniform(0, 1, (SHAPE[0], 1, *SHAPE[2:])).astype(np.float32)
    return np.where(mask < 0.3, 0, np.where(mask > 0.7, 1, mask)).astype(np.float32)


def run(rows: object, **more: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    loop = _core.DenoiseLoop(network(wave))
    arguments: dict[str, Any] = {"shape": SHAPE, "seeds": SEEDS, "control": CONTROL}
    arguments |= {"condition": {"context": CONDITION}, "uncondition": {"context": UNCONDITION}}
    return loop.run(rows, **(arguments | more)).latents


def expected(rows: SimpleNamespace, noise: dict[int, Array] | None = None, **more: Any) -> Array:
    noise = noise or {stream: batch_normals(SEEDS, stream, SHAPE) for stream in user_streams(rows)}
    arguments = {
        "condition": CONDITION.astype(float),
        "uncondition": UNCONDITION.astype(float),
        "control": CONTROL.astype(float),
    }
    return reference(rows, wave, shape=SHAPE, noise=noise, **(arguments | more))


def drawn(stream: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.stack([_core.philox_normal(seed, stream, SHAPE[1:]) for seed in SEEDS])


def alphas(steps: int) -> tuple[Array, Array, Array]:
    """Timesteps and cumulative alphas of Stable Diffusion 1.5, this level and the next one."""
    bars = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    timesteps = np.arange(0, 1000, 1000 // steps)[:steps][::-1] + 1
    here = bars[timesteps]
    return timesteps.astype(float), here, np.append(here[1:], bars[0])


def ddim_table(steps: int, guidance: float) -> SimpleNamespace:
    """HandRefiner's masked DDIM: fresh known noise at the next timestep's level, the last row unmasked."""
    timesteps, now, after = alphas(steps)
    ratio = np.sqrt((1 - after) / (1 - now))
    return table(
        steps,
        timestep=timesteps,
        guidance=guidance,
        A=1 / np.sqrt(now),
        B=-np.sqrt((1 - now) / now),
        C=ratio,
        D=np.sqrt(after) - ratio * np.sqrt(now),
        G=np.sqrt(after),
        H=np.sqrt(1 - after),
        known=np.arange(steps) < steps - 1,
        init_known=(float(np.sqrt(now[0])), float(np.sqrt(1 - now[0]))),
    )


@pytest.mark.parametrize("guidance", [1.0, 9.0])
def test_handrefiner_inpainting_equations(guidance: float) -> None:
    """Freshly noised known latents before every network call, CFG, DDIM; the last result is unblended."""
    steps = 20
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(4, 8, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(8, 4, 3, padding=1)
    )
    layers = layers.double().eval()

    def predict(x: Array, t: Array, condition: Array) -> Array:
        with torch.no_grad():
            shift = torch.from_numpy(t / 1000 + condition)[:, None, None, None]
            return np.asarray(layers(torch.from_numpy(x) + shift).numpy() + 0.8 * x)

    known, mask = random_state(1), (soft_mask() > 0.5).astype(np.float32)
    timesteps, now, after = alphas(steps)
    x = torch.from_numpy(batch_normals(SEEDS, 0, SHAPE))
    for i in range(steps):
        fresh = batch_normals(SEEDS, INITIAL_KNOWN if i == 0 else 2 * i, SHAPE)
        x_known = np.sqrt(now[i]) * known + np.sqrt(1 - now[i]) * fresh
        x = x * torch.from_numpy(mask) + torch.from_numpy(x_known * (1 - mask))
        t = np.full(2, timesteps[i])
        eps = torch.from_numpy(predict(x.numpy(), t, CONDITION.astype(float) + CONTROL))
        plain = torch.from_numpy(predict(x.numpy(), t, UNCONDITION.astype(float) + CONTROL))
        eps = plain + guidance * (eps - plain)
        x0 = (x - np.sqrt(1 - now[i]) * eps) / np.sqrt(now[i])
        x = np.sqrt(after[i]) * x0 + np.sqrt(1 - after[i]) * eps

    loop = _core.DenoiseLoop(network(predict))
    result = loop.run(
        ddim_table(steps, guidance),
        shape=SHAPE,
        seeds=SEEDS,
        condition={"context": CONDITION},
        uncondition={"context": UNCONDITION},
        control=CONTROL,
        known=known,
        mask=mask,
    )
    error = np.abs(result.latents - x.numpy()).max() / max(1.0, float(x.abs().max()))
    assert error <= 1e-5
    assert result.step_seconds.shape == result.network_seconds.shape == (steps,)
    assert (result.network_seconds > 0).all() and (result.step_seconds >= result.network_seconds).all()


FEATURES = {
    "previous x0": {"A": 0.9, "B": -0.4, "C": 0.5, "D": 0.6, "E": [0, -0.2, -0.3, -0.1, 0.2]},
    "noise": {"A": 0.9, "B": -0.4, "C": 0.5, "D": 0.6, "F": [0.3, 0, 0.2, 0.1, 0]},
    "clip": {"A": 2, "B": -1, "C": 0.5, "D": 0.6, "clip": [0.5, 0, 1, 0.2, 0.7]},
    "dynamic guidance": {"A": 1, "B": -0.5, "C": 0.3, "D": 0.6, "guidance": [7, 1, 2.5, 0, 1]},
    "dynamic control": {"A": 1, "B": -0.5, "C": 0.3, "D": 0.6, "control": [1, 0, 0.5, 2, 1]},
    "known": {
        "A": 1,
        "B": -0.5,
        "C": 0.3,
        "D": 0.6,
        "G": [0.1, 0.3, 0.6, 0.9, 1],
        "H": [0.9, 0.5, 0.3, 0, 0],
        "known": [1, 1, 0, 1, 1],
    },
}


@pytest.mark.parametrize("name", [*FEATURES, "all"])
def test_every_column(name: str) -> None:
    columns: dict[str, Any] = {}
    for feature in FEATURES if name == "all" else [name]:
        columns |= FEATURES[feature]
    if "known" in columns:
        columns |= {"known": np.array(columns["known"], bool), "init_known": (0.2, 0.8)}
    rows = table(5, timestep=[900, 700, 400.5, 100, 1], init_signal=0.4, init_noise=0.7, **columns)
    states: dict[str, Any] = {"initial": random_state(5)}
    if "known" in columns:
        states |= {"known": random_state(6), "mask": soft_mask()}
    wanted = expected(rows, **{key: value.astype(float) for key, value in states.items()})
    np.testing.assert_allclose(run(rows, **states), wanted, rtol=2e-6, atol=2e-6)


def test_the_initial_state_may_ignore_the_given_one() -> None:
    rows = table(1, C=1, init_signal=0, init_noise=1)
    np.testing.assert_array_equal(run(rows, initial=random_state(1)), run(rows))
    np.testing.assert_array_equal(run(rows), drawn(0))


def test_a_table_can_be_prepared_once() -> None:
    rows = ddim_table(4, 2.0)
    prepared = _core.StepTable.of(rows)
    states = {"known": random_state(1), "mask": soft_mask()}
    np.testing.assert_array_equal(run(rows, **states), run(prepared, **states))
    assert len(prepared) == 4 and prepared.guided and prepared.init_known == rows.init_known
    for name in ("timestep", "guidance", "A", "B", "C", "D", "E", "F", "G", "H", "clip", "control", "known"):
        np.testing.assert_array_equal(getattr(prepared, name), getattr(rows, name))


def test_inputs_per_step_reach_every_item_of_their_step() -> None:
    seen = []

    def run(inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        seen.append({name: array.copy() for name, array in inputs.items()})
        return {"prediction": inputs["sample"]}

    ports = [_core.Port("sample", [-1, 2]), _core.Port("time", [-1, 3]), _core.Port("kind", [-1], "int64")]
    made = _core.PythonNetwork(ports, [_core.Port("prediction", [-1, 2])], run)
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    kinds = np.array([5, 6, 7, 8])
    _core.DenoiseLoop(made, timestep=None, control=None).run(
        table(4, C=1, guidance=[2, 1, 2, 1]),
        shape=(3, 2),
        seeds=[1, 2, 3],
        per_step={"time": rows, "kind": kinds},
    )
    assert [len(inputs["time"]) for inputs in seen] == [6, 3, 6, 3]
    for step, inputs in enumerate(seen):
        np.testing.assert_array_equal(inputs["time"], np.tile(rows[step], (len(inputs["time"]), 1)))
        np.testing.assert_array_equal(inputs["kind"], np.full(len(inputs["kind"]), kinds[step]))


def test_user_noise_replaces_philox_in_the_documented_order() -> None:
    rows = ddim_table(6, 2.0)
    rows.F[[1, 4]] = 0.1
    states = {"known": random_state(1), "mask": soft_mask()}
    streams = user_streams(rows)
    assert _core.StepTable.of(rows).noise_streams == len(streams) == 2 + 2 + 5
    philox = np.stack([drawn(stream) for stream in streams])
    np.testing.assert_array_equal(run(rows, noise=philox, **states), run(rows, **states))
    own = random_state(9, (len(streams), *SHAPE))
    noise = dict(zip(streams, own.astype(float), strict=True))
    wanted = expected(rows, noise, **{key: value.astype(float) for key, value in states.items()})
    np.testing.assert_allclose(run(rows, noise=own, seeds=[0, 0], **states), wanted, rtol=1e-5, atol=1e-5)


def test_unconditional_items_come_first_and_rows_at_one_skip_them() -> None:
    seen: list[Array] = []

    def watch(x: Array, t: Array, condition: Array) -> Array:
        seen.append(condition.copy())
        return wave(x, t, condition)

    loop = _core.DenoiseLoop(network(watch))
    rows = table(3, guidance=[2, 1, 3], C=1, control=[1, 1, 0])
    arguments: dict[str, Any] = {"shape": SHAPE, "seeds": SEEDS, "control": [0.5, 0.75]}
    loop.run(
        rows,
        condition={"context": np.ones(1, np.float32)},
        uncondition={"context": np.zeros(2, np.float32)},
        **arguments,
    )
    np.testing.assert_array_equal(seen[0], [0.5, 0.75, 1.5, 1.75])
    np.testing.assert_array_equal(seen[1], [1.5, 1.75])
    np.testing.assert_array_equal(seen[2], [0, 0, 1, 1])


def test_an_item_does_not_depend_on_its_neighbours() -> None:
    rows = ddim_table(5, 3.0)
    rows.F[:] = 0.1
    known, mask = random_state(1), soft_mask()
    both = run(rows, known=known, mask=mask)
    for i in range(2):
        alone = run(
            rows,
            shape=(1, *SHAPE[1:]),
            seeds=SEEDS[i : i + 1],
            control=CONTROL[i : i + 1],
            condition={"context": CONDITION[i : i + 1]},
            uncondition={"context": UNCONDITION[i : i + 1]},
            known=known[i : i + 1],
            mask=mask[i : i + 1],
        )
        np.testing.assert_array_equal(alone[0], both[i])


coefficient = st.floats(-3, 3, allow_nan=False, width=32)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(*[coefficient] * 8, st.floats(0, 8), st.sampled_from([0.0, 0.25, 2.0]), st.booleans()),
        min_size=1,
        max_size=3,
    ),
    size=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)),
    start=st.tuples(coefficient, coefficient),
    init_known=st.none() | st.tuples(coefficient, coefficient),
    seed=st.integers(0, 2**64 - 1),
)
def test_any_table_on_any_shape(
    rows: list[tuple[Any, ...]],
    size: tuple[int, int, int, int],
    start: tuple[float, float],
    init_known: tuple[float, float] | None,
    seed: int,
) -> None:
    values = [np.array(column) for column in zip(*rows, strict=True)]
    names = ("A", "B", "C", "D", "E", "F", "G", "H", "guidance", "clip", "known")
    columns: dict[str, Any] = dict(zip(names, values, strict=True))
    columns["E"][0] = 0
    steps = table(len(rows), init_signal=start[0], init_noise=start[1], init_known=init_known, **columns)
    rng = np.random.default_rng(seed % 2**32)
    states: dict[str, Any] = {"initial": random_state(1, size)}
    if init_known is not None or columns["known"].any():
        states |= {"known": random_state(2, size), "mask": rng.uniform(0, 1, size).astype(np.float32)}
    seeds = [(seed + i) % 2**64 for i in range(size[0])]
    zero = np.zeros(1, np.float32)
    loop = _core.DenoiseLoop(network(wave))
    got = loop.run(
        steps,
        shape=size,
        seeds=seeds,
        condition={"context": zero},
        uncondition={"context": zero + 1},
        **states,
    ).latents
    noise = {
        stream: batch_normals(seeds, stream, size)
        for stream in [0, INITIAL_KNOWN, *range(1, 2 * len(rows) + 1)]
    }
    ones = np.ones(size[0])
    wanted = reference(
        steps, wave, shape=size, noise=noise, condition=0 * ones, uncondition=ones, control=ones,
        **{key: value.astype(float) for key, value in states.items()},
    )  # fmt: skip
    scale = max(1.0, float(np.abs(wanted).max()))
    # Guidance multiplies the rounding of the float32 state by up to 8 * 3 * 3 per row.
    np.testing.assert_allclose(got / scale, wanted / scale, rtol=0, atol=2e-4 if len(rows) > 1 else 1e-5)
