"""The timed pieces as pytest-benchmark cases: `python -m pytest bench/test_speed.py`.

HOIRT_BENCH_PACK names another pack than the bundled one, HOIRT_BENCH_THREADS the threads of both sides.
"""

from __future__ import annotations

import os
from typing import Any

import hoirt
import pytest
from hoirt.packs import Pack

from bench.kernels import KernelCase
from bench.workload import Job, Steps, open_workload, refine, run_pipeline

PACK = os.environ.get("HOIRT_BENCH_PACK", "handrefiner-tiny")
THREADS = int(os.environ.get("HOIRT_BENCH_THREADS", len(os.sched_getaffinity(0))))
Opened = tuple[Pack, hoirt.Refiner, Job, Steps]


@pytest.fixture(scope="module")
def opened() -> Opened:
    return open_workload(PACK, THREADS)


@pytest.fixture(scope="module")
def pipeline(opened: Opened) -> Any:
    import torch

    from bench.peer import make_pipeline

    torch.set_num_threads(THREADS)
    return make_pipeline(opened[0])


@pytest.mark.benchmark(group="one hand, end to end")
def test_refine(benchmark: Any, opened: Opened) -> None:
    _, refiner, job, _ = opened
    assert benchmark(refine, refiner, job).status == "refined"


@pytest.mark.benchmark(group="one hand, end to end")
def test_diffusers(benchmark: Any, opened: Opened, pipeline: Any) -> None:
    pack, _, job, _ = opened
    assert benchmark(run_pipeline, pipeline, job, pack).shape == job.crop.shape


@pytest.mark.benchmark(group="denoising loop, all steps")
def test_loop(benchmark: Any, opened: Opened) -> None:
    benchmark(opened[3].loop)


@pytest.mark.benchmark(group="denoising step")
def test_torch_step(benchmark: Any, opened: Opened, pipeline: Any) -> None:
    benchmark(opened[3].torch_step(pipeline))


@pytest.mark.benchmark(group="step table")
def test_schedule(benchmark: Any, opened: Opened) -> None:
    benchmark(lambda: Steps(opened[0], THREADS).table)


@pytest.mark.parametrize("known", [False, True], ids=["plain", "known region"])
@pytest.mark.parametrize("who", ["numpy", "torch"])
@pytest.mark.benchmark(group="guided step")
def test_guided_step(benchmark: Any, who: str, known: bool) -> None:
    benchmark(getattr(KernelCase(known), who)())


@pytest.mark.parametrize("known", [False, True], ids=["plain", "known region"])
@pytest.mark.benchmark(group="twenty guided steps in the loop, with an empty network")
def test_guided_steps(benchmark: Any, known: bool) -> None:
    benchmark(KernelCase(known).hoirt)
