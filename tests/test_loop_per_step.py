"""Inputs that change with the step: for all items, for each item, and for the unconditional half."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hoirt import InputError, _core
from loop_tools import table
from numpy.typing import NDArray

STEPS, ITEMS, WIDTH = 4, 3, 5
GUIDANCE = np.array([2.0, 1.0, 3.0, 1.0])
Floats = NDArray[np.float32]


def random(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def make_loop(seen: list[dict[str, Floats]] | None = None) -> _core.DenoiseLoop:
    """prediction = sum of `time` over its width, in every element."""

    def run(inputs: Mapping[str, Floats]) -> dict[str, Floats]:
        if seen is not None:
            seen.append({name: array.copy() for name, array in inputs.items()})
        return {"prediction": np.broadcast_to(inputs["time"].sum(-1)[:, None], inputs["sample"].shape)}

    ports = [_core.Port("sample", [-1, 2]), _core.Port("time", [-1, WIDTH])]
    made = _core.PythonNetwork(ports, [_core.Port("prediction", [-1, 2])], run)
    return _core.DenoiseLoop(made, timestep=None, control=None)


def run(loop: _core.DenoiseLoop, **given: Any) -> Floats:
    rows = table(STEPS, C=1, B=1, D=0.25, guidance=GUIDANCE)
    return loop.run(rows, shape=(ITEMS, 2), seeds=range(ITEMS), **given).latents


@pytest.mark.parametrize("shape", [(WIDTH,), (1, WIDTH), (ITEMS, WIDTH)])
@pytest.mark.parametrize("without", [None, (WIDTH,), (1, WIDTH), (ITEMS, WIDTH)])
def test_every_item_and_half_sees_its_own(shape: tuple[int, ...], without: tuple[int, ...] | None) -> None:
    seen: list[dict[str, Floats]] = []
    given = {"per_step": {"time": random(1, STEPS, *shape)}}
    other = given["per_step"]["time"]
    if without is not None:
        other = random(2, STEPS, *without)
        given["per_step_uncondition"] = {"time": other}
    latents = run(make_loop(seen), **given)
    conditional = [np.broadcast_to(given["per_step"]["time"][i], (ITEMS, WIDTH)) for i in range(STEPS)]
    unconditional = [np.broadcast_to(other[i], (ITEMS, WIDTH)) for i in range(STEPS)]
    state = make_loop().run(table(1, C=1), shape=(ITEMS, 2), seeds=range(ITEMS), per_step={"time": other[:1]})
    expected = state.latents.astype(np.float64)
    for i, guidance in enumerate(GUIDANCE):
        halves = [conditional[i]] if guidance == 1 else [unconditional[i], conditional[i]]
        np.testing.assert_array_equal(seen[i]["time"], np.concatenate(halves))
        sums = [half.astype(np.float64).sum(-1) for half in halves]
        expected += 0.25 * (sums[0] + guidance * (sums[-1] - sums[0]))[:, None]
    np.testing.assert_allclose(latents, expected, rtol=1e-5, atol=1e-5)


def test_an_item_does_not_depend_on_its_neighbours() -> None:
    given = {"per_step": random(1, STEPS, ITEMS, WIDTH), "per_step_uncondition": random(2, STEPS, WIDTH)}
    together = run(make_loop(), **{name: {"time": rows} for name, rows in given.items()})
    rows = table(STEPS, C=1, B=1, D=0.25, guidance=GUIDANCE)
    for item in range(ITEMS):
        alone = make_loop().run(
            rows,
            shape=(1, 2),
            seeds=[item],
            per_step={"time": given["per_step"][:, item : item + 1]},
            per_step_uncondition={"time": given["per_step_uncondition"]},
        )
        np.testing.assert_array_equal(alone.latents[0], together[item])


@pytest.mark.parametrize(
    ("condition", "uncondition", "message"),
    [
        (random(1, STEPS + 1, ITEMS, WIDTH), None, "one row for each of the 4 steps"),
        (random(1, STEPS, 2, WIDTH), None, r"3 \(or 1\) items on its second axis, not shape \(4, 2, 5\)"),
        (random(1, STEPS, 0, WIDTH), None, r"3 \(or 1\) items on its second axis"),
        (random(1, STEPS), None, r"2 axes \(S, ...\) or 3 axes \(S, N, ...\), not shape \(4,\)"),
        (random(1, STEPS, ITEMS, 1, WIDTH), None, r"2 axes \(S, ...\) or 3 axes"),
        (random(1, STEPS, ITEMS, WIDTH + 1), None, r"time must have shape \(-1, 5\)"),
        (np.full((STEPS, WIDTH), np.nan, np.float32), None, "per_step 'time' holds NaN"),
        (random(1, STEPS, WIDTH), random(1, STEPS, 2, WIDTH), "per_step_uncondition 'time' must have 3"),
        (random(1, STEPS, WIDTH), random(1, STEPS, WIDTH + 1), "must be like its per_step, float32"),
        (random(1, STEPS, WIDTH), np.zeros((STEPS, WIDTH)), "must be like its per_step.*not float64"),
        (
            random(1, STEPS, WIDTH),
            random(1, STEPS - 1, WIDTH),
            "per_step_uncondition 'time' must have one row",
        ),
        (
            random(1, STEPS, WIDTH),
            np.full((STEPS, WIDTH), np.inf, np.float32),
            "uncondition 'time' holds NaN",
        ),
    ],
)
def test_what_does_not_fit_is_refused(condition: Floats, uncondition: Floats | None, message: str) -> None:
    given: dict[str, Any] = {"per_step": {"time": condition}}
    if uncondition is not None:
        given["per_step_uncondition"] = {"time": uncondition}
    with pytest.raises(InputError, match=message):
        run(make_loop(), **given)


def test_only_what_is_given_per_step_differs_without_the_condition() -> None:
    rows = random(1, STEPS, WIDTH)
    with pytest.raises(InputError, match="per_step_uncondition names 'tiem', but per_step does not"):
        run(make_loop(), per_step={"time": rows}, per_step_uncondition={"tiem": rows})
    with pytest.raises(InputError, match="per_step_uncondition: "):
        run(make_loop(), per_step={"time": rows}, per_step_uncondition=rows)
