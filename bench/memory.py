"""Peak memory of one side, in a process of its own.

    python -m bench.memory hoirt|diffusers JOB PACK THREADS PRECISION

The peak is VmHWM, that of this program's own address space: a child's ru_maxrss starts from its parent's.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Literal

Side = Literal["hoirt", "diffusers"]


def peak(side: Side, job: Path, pack: str, threads: int, precision: str) -> float:
    """MiB that a fresh process needs at most to open the pack and refine the job's hand twice."""
    command = [sys.executable, "-m", "bench.memory", side, str(job), pack, str(threads), precision]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    return float(done.stdout.split()[-1])


def _peak_of_this_process() -> float:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _hoirt(job: Path, pack: str, threads: int, precision: str) -> None:
    import hoirt

    from bench.workload import Job, refine

    refiner = hoirt.Refiner(pack, threads=threads, precision=precision)
    loaded = Job.load(job)
    for _ in range(2):
        refine(refiner, loaded)


def _diffusers(job: Path, pack: str, threads: int, _precision: str) -> None:
    import torch
    from hoirt.packs import open_pack

    from bench.peer import make_pipeline
    from bench.workload import Job, run_pipeline

    torch.set_num_threads(threads)
    opened = open_pack(pack)
    pipeline = make_pipeline(opened)
    loaded = Job.load(job)
    for _ in range(2):
        run_pipeline(pipeline, loaded, opened)


if __name__ == "__main__":
    side, job, pack, threads, precision = sys.argv[1:]
    {"hoirt": _hoirt, "diffusers": _diffusers}[side](Path(job), pack, int(threads), precision)
    print(_peak_of_this_process())
