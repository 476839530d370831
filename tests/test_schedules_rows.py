"""Guidance interval and reuse of `build`: which rows, what they cost, and whole runs against a NumPy loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hoirt import InputError, _core
from hoirt.schedules import build
from hypothesis import given, settings
from hypothesis import strategies as st
from loop_tools import network, philox_normals, wave
from numpy.typing import NDArray

DDIM: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
DPM = {"_class_name": "DPMSolverMultistepScheduler", "beta_schedule": "scaled_linear"}


def guided(*arguments: Any, **more: Any) -> list[int]:
    return np.flatnonzero(build(*arguments, guidance=4.0, **more).guidance != 1).tolist()


def test_which_rows_are_guided() -> None:
    assert guided(DDIM, 20) == list(range(20))
    assert guided(DDIM, 20, guidance_interval=(0.2, 0.8)) == list(range(4, 16))
    assert guided(DDIM, 20, guidance_interval=[0.0, 0.5]) == list(range(10))
    assert guided(DDIM, 20, guidance_interval=(0.51, 1)) == list(range(11, 20))
    assert guided(DDIM, 20, guidance_interval=(0.5, 0.5)) == []
    assert guided(DDIM, 3, guidance_interval=(0.3, 0.4)) == [1]  # 1/3 lies in it
    assert guided(DDIM, 1, guidance_interval=(0.1, 1)) == []  # the only row is the one at 0
    # With start = 0.5 the rows 10 to 19 of 20 are run, and keep their numbers.
    assert guided(DDIM, 20, guidance_interval=(0.2, 0.8), start=0.5) == list(range(6))


@settings(max_examples=60, deadline=None)
@given(steps=st.integers(1, 60), ends=st.tuples(st.integers(0, 60), st.integers(0, 60)))
def test_an_interval_of_whole_rows_has_them(steps: int, ends: tuple[int, int]) -> None:
    low, high = sorted(min(end, steps) for end in ends)
    rows = guided(DDIM, steps, guidance_interval=(low / steps, high / steps))
    assert rows == list(range(low, high))


def test_dynamic_guidance_keeps_to_the_interval() -> None:
    config = {"_class_name": "CogVideoXDDIMScheduler", "timestep_spacing": "trailing"}
    arguments: dict[str, Any] = {"guidance": 6.0, "dynamic_guidance": True}
    plain, inside = (
        build(config, 10, **arguments, **more) for more in ({}, {"guidance_interval": (0.3, 0.6)})
    )
    np.testing.assert_array_equal(inside.guidance[3:6], plain.guidance[3:6])
    assert (np.delete(inside.guidance, [3, 4, 5]) == 1).all() and (plain.guidance != 1).sum() > 3


def test_a_run_equals_numpy_and_costs_half_outside() -> None:
    """DDIM with classifier-free guidance inside of the interval, written here without a step table."""
    steps, low, high, scale = 10, 0.2, 0.7, 5.0
    shape, seed = (1, 4, 5, 6), 3
    batches: list[int] = []

    def predict(x: NDArray[Any], t: NDArray[Any], condition: NDArray[Any]) -> NDArray[Any]:
        batches.append(len(x))
        return wave(x, t, condition)

    result = _core.DenoiseLoop(network(predict)).run(
        build(DDIM, steps, guidance=scale, guidance_interval=(low, high)),
        shape=shape,
        seeds=[seed],
        condition={"context": np.full(1, 0.5, np.float32)},
        uncondition={"context": np.zeros(1, np.float32)},
    )
    assert batches == [1, 1, 2, 2, 2, 2, 2, 1, 1, 1]

    bars = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    times = np.arange(steps)[::-1] * (1000 // steps) + 1
    x = philox_normals(seed, 0, shape[1:])[None].astype(np.float64)
    one = np.ones(1)  # the control strength is part of this network's condition
    for i, t in enumerate(times):
        a, p = bars[t], bars[t - 1000 // steps] if i + 1 < steps else bars[0]
        eps = wave(x, t * one, 0.5 + one)
        if low <= i / steps < high:
            plain = wave(x, t * one, one)
            eps = plain + scale * (eps - plain)
        x0 = (x - np.sqrt(1 - a) * eps) / np.sqrt(a)
        x = np.sqrt(p) * x0 + np.sqrt(1 - p) * eps
    np.testing.assert_allclose(result.latents, x, rtol=0, atol=2e-5 * np.abs(x).max())


def reused(steps: int, **more: Any) -> list[int]:
    return np.flatnonzero(build(DPM, steps, **more).reuse).tolist()


def test_which_rows_reuse() -> None:
    assert reused(7) == [] == reused(7, reuse_every=1)
    assert reused(7, reuse_every=3) == [1, 2, 4, 5]
    assert reused(7, reuse_every=100) == [1, 2, 3, 4, 5, 6]
    assert reused(1, reuse_every=2) == []
    # Rows 3 and 4 are guided: row 3 is full, as the features of row 0 have no unconditional half.
    assert reused(8, reuse_every=4, guidance=3.0, guidance_interval=(0.375, 0.625)) == [1, 2, 5, 6, 7]


@settings(max_examples=60, deadline=None)
@given(
    steps=st.integers(1, 30),
    every=st.integers(1, 8),
    ends=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    start=st.none() | st.floats(0.3, 1),
)
def test_built_tables_are_always_fit_to_run(
    steps: int, every: int, ends: tuple[float, float], start: float | None
) -> None:
    if start is not None and int(steps * start) < 1:
        start = None
    interval = (min(ends), max(ends))
    table = build(DPM, steps, guidance=2.0, guidance_interval=interval, reuse_every=every, start=start)
    native = _core.StepTable.of(table)  # checks it
    np.testing.assert_array_equal(native.reuse, table.reuse)
    assert not table.reuse[::every].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"guidance_interval": 0.5}, r"guidance_interval must be a pair \(low, high\)"),
        ({"guidance_interval": (0.1, 0.2, 0.3)}, "guidance_interval must be a pair"),
        ({"guidance_interval": "01"}, "guidance_interval must be a pair"),
        ({"guidance_interval": (0.6, 0.5)}, r"guidance_interval must not fall, got \(0.6, 0.5\)"),
        ({"guidance_interval": (-0.1, 0.5)}, r"guidance_interval\[0\] must be between 0 and 1"),
        ({"guidance_interval": (0.0, 1.5)}, r"guidance_interval\[1\] must be between 0 and 1"),
        ({"guidance_interval": (0.0, np.nan)}, r"guidance_interval\[1\] must be between 0 and 1"),
        ({"guidance_interval": (0.0, "1")}, r"guidance_interval\[1\] must be a number"),
        (
            {"guidance_interval": np.array([[0.0, 1.0], [0.0, 1.0]])},
            r"guidance_interval\[0\] must be a number",
        ),
        ({"reuse_every": 0}, "reuse_every must be between 1 and 10000"),
        ({"reuse_every": 2.0}, "reuse_every must be a whole number"),
        ({"reuse_every": True}, "reuse_every must be a whole number"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(DDIM, 4, **arguments)
