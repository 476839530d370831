"""Every call of the CUDA runtime fails, one after another, on a GPU that the CPU plays: a run tells it by an
error of ours or does without, nothing is lost or left behind, and the next run is right.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import hoirt
import numpy as np
import played_cuda
import pytest
from device_tools import device
from hoirt import BackendError, OutOfMemory
from loop_device_tools import Network, arguments, values
from repair_cases import BOXES
from repair_cuda_tools import CALL, NEEDS_PLAYED_GPU, noise

pytest_plugins = ["repair_cuda_tools"]
pytestmark = NEEDS_PLAYED_GPU
NO_MEMORY, LAUNCH_FAILED = 2, 719  # cudaErrorMemoryAllocation, cudaErrorLaunchFailure
CALLS = {
    "cudaMallocFromPoolAsync": NO_MEMORY,
    "cudaMallocHost": NO_MEMORY,
    "cudaHostAlloc": NO_MEMORY,
    "cudaMemcpyAsync": LAUNCH_FAILED,
    "cudaMemsetAsync": LAUNCH_FAILED,
    "cudaLaunchKernelEx": LAUNCH_FAILED,
    "cudaGraphLaunch": LAUNCH_FAILED,
    "cudaGraphInstantiate": NO_MEMORY,
    "cudaStreamBeginCapture": LAUNCH_FAILED,
    "cudaStreamEndCapture": LAUNCH_FAILED,
    "cudaStreamCreateWithFlags": NO_MEMORY,
    "cudaStreamSynchronize": LAUNCH_FAILED,
    "cudaStreamWaitEvent": LAUNCH_FAILED,
    "cudaEventCreateWithFlags": NO_MEMORY,
    "cudaEventRecord": LAUNCH_FAILED,
    "cudaEventSynchronize": LAUNCH_FAILED,
}


def fail_each(name: str, run: Callable[[], Any], *, every: float = 1) -> int:
    """Runs with the call of each number failing, until there is none of it; how often one did.

    every: the factor from one number to the next, where a run has too many calls.
    """
    number = failures = 1
    while True:
        played_cuda.fail(name, number, CALLS[name])
        run()
        if not played_cuda.calm():
            return failures - 1
        failures += 1
        number = max(number + 1, int(every * number))


@pytest.mark.parametrize("name", CALLS)
def test_in_a_loop(name: str) -> None:
    loop = Network("cuda:0").loop()
    wanted = values(Network("cpu").loop().run(**arguments(5)).latents)

    def run() -> None:
        try:
            loop.unload()  # so that each takes memory and records graphs
            latents = values(loop.run(**arguments(5)).latents)
        except (BackendError, OutOfMemory) as error:
            assert "CUDA" in str(error) or "cuda:0" in str(error)
        else:
            np.testing.assert_allclose(latents, wanted, rtol=0, atol=1e-5)

    before = clean(loop)
    # Streams are used again; tests/cpp/cuda makes one fail.
    assert fail_each(name, run) > 0 or name in ("cudaMemsetAsync", "cudaStreamCreateWithFlags")
    np.testing.assert_allclose(values(loop.run(**arguments(5)).latents), wanted, rtol=0, atol=1e-5)
    assert clean(loop) == before


@pytest.mark.parametrize("name", CALLS)
def test_in_a_repair_of_two_pictures(gpu: hoirt.Refiner, name: str) -> None:
    """What fails in one picture leaves the other as it is."""
    pictures, call = [noise(), noise(seed=1)], CALL | {"hands": [BOXES[:1]] * 2, "steps": 3}
    results = list(gpu(pictures, **call))
    assert [result.status for result in results] == ["refined", "refined"]

    def run() -> None:
        right = 0
        for result, wanted in zip(gpu(pictures, **call), results, strict=True):
            if result.status == "error":
                assert isinstance(result.error, BackendError | OutOfMemory), result.error
            else:
                np.testing.assert_array_equal(result.image, wanted.image)
                right += 1
        assert right >= 1

    fail_each(name, run, every=4)
    run()


@pytest.mark.parametrize("batch", [1, 2])
def test_results_with_errors_keep_no_memory(gpu: hoirt.Refiner, batch: int) -> None:
    """Without a collection of cycles; only functions within functions may keep what they name, a picture."""
    pictures, call = [noise(), noise(seed=1)], CALL | {"hands": [BOXES[:1]] * 2, "steps": 3, "batch": batch}
    kept = [gpu(pictures, **call)]

    def run() -> None:
        kept.append(gpu(pictures, **call))

    gc.collect()
    gc.disable()
    try:
        before = blocks()
        assert fail_each("cudaMemcpyAsync", run, every=2) >= 5
        assert sum(result.status == "error" for results in kept for result in results) >= 3
        assert blocks() <= before + 2
    finally:
        gc.enable()


def clean(loop: Any) -> int:
    """Blocks of memory that are left when everything is given back."""
    loop.unload()
    gc.collect()  # what other tests left behind
    return blocks()


def blocks() -> int:
    device("cuda:0").synchronize()
    device("cuda:0").trim()
    return played_cuda.live_blocks()
