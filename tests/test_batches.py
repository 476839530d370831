"""Lists of pictures in batches: per-item arguments, errors and cancels; the same pictures as one by one."""

from __future__ import annotations

import gc
import traceback
import weakref
from typing import Any

import hoirt
import numpy as np
import pytest
from blobs import scene
from hoirt.pipeline import batches


def test_a_batch_gives_the_pictures_of_single_calls(refiner: hoirt.Refiner) -> None:
    pictures = [scene(), scene(100, 140), scene(hands=2), scene(hands=0)]
    options: dict[str, Any] = {"steps": 2}
    per_item = {
        "prompt": ["a fist", "an open palm", "two hands", ""],
        "seed": [1, 2, 3, 4],
        "strength": [0.2, 0.9, 1.2, 0.5],
    }
    regions: list[int] = []
    together = refiner(
        pictures, batch=4, on_step=lambda info: regions.append(info.hands), **per_item, **options
    )
    assert regions == [4, 4]  # all four hands in one run
    for index, (picture, result) in enumerate(zip(pictures, together, strict=True)):
        alone = refiner(picture, **{key: values[index] for key, values in per_item.items()}, **options)
        assert (result.status, result.strength, result.seed) == (alone.status, alone.strength, alone.seed)
        difference = np.asarray(result.image, float) - np.asarray(alone.image, float)
        assert np.abs(difference).max() <= 1


def test_items_that_do_not_fit_together_still_run(refiner: hoirt.Refiner) -> None:
    """Frames of two sizes, one picture without guidance, one adaptive: groups of their own."""
    pictures = [scene(64, 96), scene(96, 64), scene(64, 96), scene(64, 96)]
    results = refiner(
        pictures,
        batch=4,
        region="frame",
        steps=1,
        hands=[[(10, 10, 50, 50)]] * 4,
        prompt=["a fist", "a fist", "a malformed hand", "a fist"],  # the third is the negative prompt itself
        strength=[0.5, 0.5, 0.5, "adaptive"],
    )
    assert [result.status for result in results] == ["refined"] * 4
    assert len(results[3].trials) >= 2 and results[0].trials == ()


def test_one_bad_item_fails_alone(refiner: hoirt.Refiner) -> None:
    pictures = [scene(), "missing.png", scene(), np.full((9, 9, 3), np.nan), scene(), scene()]
    results = refiner(
        pictures,
        batch=6,
        steps=1,
        strength=[0.5, 0.5, 9.0, 0.5, "much", "adaptive"],
        noise=[None, None, None, None, None, np.zeros(3)],
    )
    assert [result.status for result in results] == ["refined"] + ["error"] * 5
    for result, words in zip(results[1:], ("missing", "strength", "NaN", "strength", "noise"), strict=True):
        assert isinstance(result.error, hoirt.InputError) and words in str(result.error)


@pytest.mark.parametrize(
    "error",
    [
        hoirt.BackendError("the state is not finite"),
        hoirt.InputError("the engine takes 8 at most"),
        hoirt.OutOfMemory("not for so many"),
        MemoryError(),
    ],
)
def test_a_batch_that_fails_runs_one_by_one(
    refiner: hoirt.Refiner, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def spoiled(*_: Any) -> None:
        raise error

    monkeypatch.setattr(batches, "regenerate", spoiled)
    results = refiner([scene(), scene()], batch=2, steps=1)
    assert [result.status for result in results] == ["refined", "refined"]


@pytest.mark.parametrize("batch", [1, 2])
def test_the_error_of_a_picture_keeps_no_memory(
    refiner: hoirt.Refiner, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """Neither while others of its batch are repaired nor after, without a collection of cycles."""
    held: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def fails(job: Any) -> None:
        alive.append(sum(one() is not None for one in held[::2]))
        state = np.zeros(4)
        held.extend([weakref.ref(state), weakref.ref(job.canvas)])
        try:
            raise MemoryError("no room")
        except MemoryError as error:
            raise hoirt.BackendError("it failed") from error

    monkeypatch.setattr(batches, "finish", lambda _models, job, _settings: fails(job))
    monkeypatch.setattr(batches, "regenerate", lambda _models, jobs, _settings: fails(jobs[0]))
    gc.disable()
    try:
        results = refiner([scene(), scene()], batch=batch, steps=1)
        assert not any(one() is not None for one in held)
    finally:
        gc.enable()
    assert alive == [0, 0, 0][: batch + 1]
    for result in results:
        assert isinstance(result.error, hoirt.BackendError)
        told = "".join(traceback.format_exception(result.error))
        assert "no room" in told and "in fails" in told


def test_each_picture_has_its_own_token(refiner: hoirt.Refiner) -> None:
    for batch in (1, 3):
        tokens = [hoirt.CancelToken(), hoirt.CancelToken(), None]
        tokens[1].cancel()
        results = refiner([scene()] * 3, batch=batch, steps=2, cancel=tokens)
        assert [result.status for result in results] == ["refined", "cancelled", "refined"]
        assert isinstance(results[1].error, hoirt.Cancelled) and results[1].image is None

    late = hoirt.CancelToken()
    results = refiner(
        [scene()] * 2, batch=2, steps=2, cancel=[late, None], on_step=lambda info: late.cancel()
    )
    assert [result.status for result in results] == ["cancelled", "refined"]


def test_one_token_for_all_ends_the_call(refiner: hoirt.Refiner) -> None:
    token = hoirt.CancelToken()
    with pytest.raises(hoirt.Cancelled):
        refiner([scene()] * 2, batch=2, steps=2, cancel=token, on_step=lambda info: token.cancel())
    with pytest.raises(hoirt.Cancelled):
        refiner([scene()] * 2, batch=2, steps=2, on_step=lambda info: False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": 0}, "batch"),
        ({"batch": 65}, "batch"),
        ({"batch": 2.0}, "batch"),
        ({"preview": 0.0}, "preview"),
        ({"preview": "half"}, "preview"),
        ({"faithful": 1}, "faithful"),
        ({"faithful": True, "region": "crop"}, "knows no region"),
        ({"faithful": True, "scheduler": "DDIM", "reuse": "deep"}, "knows no scheduler, reuse"),
        ({"colour_match": None}, "colour_match"),
        ({"reuse": "all"}, "reuse"),
        ({"reuse_every": 0}, "reuse_every"),
        ({"guidance_interval": 0.5}, "guidance_interval"),
        ({"guidance_interval": (0.9, 0.1)}, "guidance_interval"),
        ({"guidance_interval": (0.0, float("nan"))}, "guidance_interval"),
        ({"cancel": [None, 3]}, "cancel is a list of 2"),
        ({"strength": [0.5, 0.6, 0.7]}, "strength"),
    ],
)
def test_wrong_arguments(refiner: hoirt.Refiner, options: dict[str, Any], words: str) -> None:
    with pytest.raises(hoirt.InputError, match=words):
        refiner(scene(), **options) if "cancel" not in options else refiner([scene()], **options)
