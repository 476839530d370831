"""strength="adaptive": the paper's procedure, its picture, its batch and preview forms."""

from __future__ import annotations

from typing import Any

import hoirt
import numpy as np
import pytest
from blobs import outside_is_identical, scene
from hoirt.pipeline import strengths as strengths_module
from hoirt.pipeline.adaptive import REFERENCE, STRENGTHS, TOLERANCE, choose, joint_error
from hoirt.pipeline.run import at_strengths
from hypothesis import given
from hypothesis import strategies as st

errors = st.floats(0.0, 1e6, allow_nan=False)


@given(st.lists(errors, min_size=7, max_size=7))
def test_procedure_is_the_papers(values: list[float]) -> None:
    """Against the paper's pseudo-code, written out."""
    of = dict(zip((1.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), values, strict=True))
    asked: list[float] = []

    def error_at(strength: float) -> float:
        asked.append(strength)
        return of[strength]

    selected, looked_at = 1.0, [1.0]
    for strength in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        looked_at.append(strength)
        if of[strength] < of[1.0] * 1.15:
            selected = strength
            break
    chosen, trials = choose(error_at)
    assert chosen.strength == selected and chosen.error == of[selected]
    assert [trial.strength for trial in trials] == asked == looked_at
    assert (REFERENCE, *STRENGTHS) == (1.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9) and TOLERANCE == 1.15


@pytest.mark.parametrize("region", ["crop", "frame"])
def test_picture_is_that_of_the_chosen_strength(refiner: hoirt.Refiner, region: str) -> None:
    picture = scene(hands=2)
    result = refiner(picture, prompt="a fist", strength="adaptive", region=region, steps=2, seed=3)
    assert result.status == "refined" and outside_is_identical(picture, result)
    assert [trial.strength for trial in result.trials] == [1.0, *STRENGTHS][: len(result.trials)]
    fixed = refiner(picture, prompt="a fist", strength=result.strength, region=region, steps=2, seed=3)
    assert np.array_equal(result.image, fixed.image)  # type: ignore[arg-type]
    by_strength = {trial.strength: trial.error for trial in result.trials}
    seen = refiner._models.find.again(np.asarray(result.image), list(result.hands))
    assert by_strength[result.strength] == pytest.approx(joint_error(result.hands, seen))
    assert str(result.strength) in result.summary() and "tried" in result.summary()


def test_error_is_the_mean_distance_of_the_joints(refiner: hoirt.Refiner) -> None:
    hands = refiner.detect(scene(hands=2))
    moved = refiner.detect(np.roll(scene(hands=2), (4, 3), axis=(0, 1)), hands=hands)
    assert moved[0] is hands[0] and joint_error(hands, moved) == 0  # told hands stay as they are
    again = refiner._models.find.again(np.roll(scene(hands=2), 5, axis=1), hands)
    distances = [np.hypot(*(a.keypoints - b.keypoints).T) for a, b in zip(hands, again, strict=True)]
    assert joint_error(hands, again) == pytest.approx(np.concatenate(distances).sum() / (21 * 2))
    assert [hand.side for hand in again] == [hand.side for hand in hands]


def test_one_batch_gives_the_same_choice(refiner: hoirt.Refiner, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = scene(hands=2)
    in_order = refiner(picture, prompt="a fist", strength="adaptive", steps=2)
    runs = []
    monkeypatch.setattr(refiner._models, "parallel_strengths", True)
    at_once = refiner(
        picture, prompt="a fist", strength="adaptive", steps=2, on_step=lambda info: runs.append(info.hands)
    )
    assert runs == [14, 14]  # two hands under seven strengths, two steps
    assert at_once.strength == in_order.strength
    assert [t.strength for t in at_once.trials] == [t.strength for t in in_order.trials]
    np.testing.assert_allclose(
        [t.error for t in at_once.trials], [t.error for t in in_order.trials], rtol=1e-3, atol=1e-3
    )
    difference = np.asarray(at_once.image, float) - np.asarray(in_order.image, float)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("error", [hoirt.OutOfMemory("full"), hoirt.InputError("batches of 1 to 8")])
def test_without_room_for_a_batch_the_strengths_run_in_order(
    refiner: hoirt.Refiner, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    picture = scene()
    expected = refiner(picture, strength="adaptive", steps=2)
    several: list[int] = []

    def one_at_a_time(models: Any, job: Any, strengths: Any, *args: Any, **options: Any) -> Any:
        if len(strengths) > 1:
            several.append(len(strengths))
            raise error
        return at_strengths(models, job, strengths, *args, **options)

    monkeypatch.setattr(refiner._models, "parallel_strengths", True)
    monkeypatch.setattr(strengths_module, "at_strengths", one_at_a_time)
    found = refiner(picture, strength="adaptive", steps=2)
    assert several == [7] and found.trials == expected.trials
    assert np.array_equal(found.image, expected.image)  # type: ignore[arg-type]


def test_preview_judges_early_and_ends_whole(refiner: hoirt.Refiner) -> None:
    picture = scene()
    steps: list[tuple[int, int]] = []
    result = refiner(
        picture,
        strength="adaptive",
        preview=0.5,
        steps=4,
        on_step=lambda info: steps.append((info.run, info.steps)),
    )
    tried = len(result.trials)
    assert steps == [(run, 2) for run in range(tried) for _ in range(2)] + [(tried, 4)] * 4
    fixed = refiner(picture, strength=result.strength, steps=4)
    assert np.array_equal(result.image, fixed.image)  # type: ignore[arg-type]


def test_own_noise_counts_in_every_run(refiner: hoirt.Refiner) -> None:
    noise = np.random.default_rng(0).normal(size=(2 + 3, 1, 4, 16, 16))
    options: dict[str, Any] = {"prompt": "a fist", "noise": noise, "steps": 4}
    result = refiner(scene(), strength="adaptive", preview=0.5, **options)
    fixed = refiner(scene(), strength=result.strength, **options)
    assert np.array_equal(result.image, fixed.image)  # type: ignore[arg-type]


def test_needs_hands(refiner: hoirt.Refiner) -> None:
    depth = np.zeros((120, 160), np.uint8)
    depth[40:80, 50:90] = 200
    with pytest.raises(hoirt.InputError, match="needs hands"):
        refiner(scene(), hands=[], depth=depth, strength="adaptive")
    nothing = refiner(scene(hands=0), strength="adaptive")
    assert nothing.status == "no_hand" and nothing.trials == ()


def test_cancelled_between_runs(refiner: hoirt.Refiner) -> None:
    token = hoirt.CancelToken()

    def cancel(info: hoirt.StepInfo) -> None:
        if info.step == info.steps - 1:
            token.cancel()

    with pytest.raises(hoirt.Cancelled):
        refiner(scene(), strength="adaptive", steps=2, on_step=cancel, cancel=token)
