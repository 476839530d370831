"""Calls of all sorts by several threads at once, on a GPU that the CPU plays: pictures do not depend on
what else runs, who cancels stops alone, memory is given back, and nothing is done against CUDA's rules.
"""

from __future__ import annotations

import gc
import random
import threading
from typing import Any

import hoirt
import numpy as np
import played_cuda
import pytest
from hoirt.backends.devices import open_device
from repair_cases import BOXES
from repair_cuda_tools import NEEDS_PLAYED_GPU, noise

pytest_plugins = ["repair_cuda_tools"]
pytestmark = NEEDS_PLAYED_GPU


@pytest.mark.parametrize("seed", range(2))
def test_calls_of_all_sorts(gpu: hoirt.Refiner, seed: int) -> None:
    seen: dict[Any, Any] = {}  # the picture of each kind of call

    def work(thread: int) -> None:
        draw = random.Random(10 * seed + thread)
        for _ in range(4):
            pictures = [draw.randrange(3) for _ in range(draw.randint(1, 3))]
            kind = some_kind(draw)
            tokens = [hoirt.CancelToken() if draw.random() < 0.2 else None for _ in pictures]
            results = gpu(
                [noise(height=128 + 32 * (index % 2), seed=index) for index in pictures],
                hands=[BOXES[: kind["hands"]]] * len(pictures),
                batch=draw.randint(1, 3),
                cancel=tokens,
                on_step=lambda info, tokens=tokens: [token.cancel() for token in tokens if token] and None,
                **{name: value for name, value in kind.items() if name != "hands"},
            )
            for index, token, result in zip(pictures, tokens, results, strict=True):
                expected = "no_hand" if kind["hands"] == 0 else "cancelled" if token else "refined"
                assert result.status == expected, result.error
                if expected == "refined":
                    first = seen.setdefault((index, *kind.items()), result.image)
                    assert np.abs(first.astype(int) - result.image).max() <= 1  # batches differ in rounding
            if draw.random() < 0.1:
                gpu.unload()

    failed: list[BaseException] = []

    def watched(thread: int) -> None:
        try:
            work(thread)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=watched, args=[thread]) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    assert len(seen) > 5
    gpu.unload()
    gc.collect()  # what other tests left behind
    open_device("cuda:0").trim()
    assert played_cuda.live_blocks() == 0


def some_kind(draw: random.Random) -> dict[str, Any]:
    return {
        "hands": draw.randint(0, 2),
        "steps": draw.choice([2, 3, 5]),
        "strength": draw.choice([0.5, 0.5, 0.9, "adaptive"]),
        "reuse": draw.choice([None, None, "control", "deep"]),
        "guidance": draw.choice([None, None, 1.0]),
    }
