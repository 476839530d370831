"""Whole repairs on a GPU that the CPU plays: pictures equal the CPU's; graphs, threads, memory."""

from __future__ import annotations

import gc
import re
import threading
from pathlib import Path
from typing import Any

import hoirt
import numpy as np
import played_cuda
import pytest
from hoirt import _core
from hoirt.backends.devices import open_device
from numpy.typing import NDArray
from repair_cases import BOXES, MASK, REPAIRS
from repair_cuda_tools import CALL, NEEDS_PLAYED_GPU, check, noise

pytest_plugins = ["repair_cuda_tools"]
pytestmark = NEEDS_PLAYED_GPU
DEMO = sorted((Path(hoirt.__file__).parent / "demo").glob("*.png"))


WAYS = REPAIRS | {
    "preview": {"strength": "adaptive", "preview": 0.5},
    "one guided half": {"guidance": 1.0},
    "guidance inside an interval": {"guidance_interval": (0.3, 0.7)},
    "noise in every step": {"scheduler": "DDPMScheduler", "negative_prompt": "blurred"},
    "colours as decoded": {"colour_match": False, "strength": 0.0},
    "hands by masks": {"hands": [MASK]},
}


@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
def test_the_pictures_of_the_cpu(gpu: hoirt.Refiner, cpu: hoirt.Refiner, options: dict[str, Any]) -> None:
    check(gpu(noise(), **CALL | options), cpu(noise(), **CALL | options))


def test_noise_and_estimates_of_the_caller(gpu: hoirt.Refiner, cpu: hoirt.Refiner) -> None:
    call = CALL | {"hands": BOXES[:1]}
    with pytest.raises(hoirt.InputError, match="this call needs") as told:
        gpu(noise(), **call, noise=np.zeros((1, 1, 1, 1, 1), np.float32))
    shape = tuple(map(int, re.findall(r"\d+", str(told.value).partition("needs")[2])))
    call["noise"] = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    found, expected = [], []
    check(
        gpu(noise(), **call, on_step=lambda info: found.append(info.x0.copy())),
        cpu(noise(), **call, on_step=lambda info: expected.append(info.x0.copy())),
    )
    assert len(expected) == CALL["steps"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_more_hands_at_once_than_the_engine_takes(gpu: hoirt.Refiner, cpu: hoirt.Refiner) -> None:
    """Six hands are a guided batch of twelve, engines are built for eight; each picture by itself fits."""
    pictures, call = [noise(seed=seed) for seed in range(3)], CALL | {"hands": [BOXES[:2]] * 3, "batch": 3}
    for found, expected in zip(gpu(pictures, **call), cpu(pictures, **call), strict=True):
        assert found.status == "refined", found.error
        check(found, expected)


def test_hands_that_are_found(gpu: hoirt.Refiner, cpu: hoirt.Refiner) -> None:
    assert len(DEMO) >= 2
    for found, expected in zip(gpu(DEMO[:2], steps=4), cpu(DEMO[:2], steps=4), strict=True):
        assert found.status == "refined", found.error
        check(found, expected)


def test_a_batch_of_pictures_of_many_sizes(gpu: hoirt.Refiner, cpu: hoirt.Refiner) -> None:
    pictures = [noise(97, 131, 1), noise(128, 128, 2), noise(203, 110, 3)]
    call: dict[str, Any] = {"hands": [BOXES[:1], BOXES, []], "steps": 2, "seed": [5, 6, 7]}
    together = list(gpu(pictures, **call, batch=3))
    assert [result.status for result in together] == ["refined", "refined", "no_hand"]
    for found, expected in zip(together, cpu(pictures, **call), strict=True):
        check(found, expected)


def test_steps_are_replayed(tensorrt: Any, gpu: hoirt.Refiner) -> None:
    """However many there are, the engines are called as often: the rest are graphs."""
    gpu(noise(), **CALL)
    calls = tensorrt.fake.calls
    counts = []
    for steps in (4, 12):
        calls.clear()
        gpu(noise(), **CALL | {"steps": steps})
        counts.append(calls.count("execute_async_v3"))
    assert counts[0] == counts[1]


def test_threads_share_a_refiner(gpu: hoirt.Refiner) -> None:
    wanted = [gpu(noise(), **CALL | {"seed": seed}).image for seed in range(3)]
    found: list[tuple[int, NDArray[np.uint8]]] = []

    def work() -> None:
        for seed in range(3):
            found.append((seed, gpu(noise(), **CALL | {"seed": seed}).image))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 9
    for seed, image in found:
        np.testing.assert_array_equal(image, wanted[seed])


def test_a_repair_after_one_that_was_cancelled(gpu: hoirt.Refiner) -> None:
    before = gpu(noise(), **CALL).image
    token = _core.CancelToken()
    with pytest.raises(hoirt.Cancelled):
        gpu(noise(), **CALL, on_step=lambda info: token.cancel(), cancel=token)
    np.testing.assert_array_equal(gpu(noise(), **CALL).image, before)


def test_unload_gives_all_memory_back(gpu: hoirt.Refiner) -> None:
    gc.collect()  # errors of other tests keep what they saw
    before = gpu(noise(), **CALL).image
    gpu.unload()
    device = open_device("cuda:0")
    device.trim()
    assert played_cuda.live_blocks() == 0
    assert len(set(device.memory())) == 1  # all of it is free
    np.testing.assert_array_equal(gpu(noise(), **CALL).image, before)
