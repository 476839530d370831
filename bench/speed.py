"""How fast, beside the diffusers pipeline in float32: same pack, steps and threads, in one run.

    python -m bench.speed [--pack handrefiner-tiny] [--threads N] [--precision fp32] [--rounds 9] [--out FILE]

Prints each figure beside its bound; exit code 1 if a bound is missed. bench/README.md explains the figures.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hoirt.packs import open_pack

from bench import memory
from bench.record import RESULTS, Figure, document, table, write_json
from bench.stopwatch import Seconds, in_fresh_processes, in_turns

Measured = tuple[list[Figure], dict[str, Seconds]]


def pipelines(pack: str, threads: int, precision: str, rounds: int) -> Measured:
    """End to end, per step, memory, and the share of the loop outside the networks."""
    import torch

    from bench.peer import make_pipeline
    from bench.workload import open_workload, refine, run_pipeline

    opened, refiner, job, steps = open_workload(pack, threads, precision)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "job.npz"
        job.save(file)
        peaks = {side: memory.peak(side, file, pack, threads, precision) for side in ("hoirt", "diffusers")}
    torch.set_num_threads(threads)
    pipeline = make_pipeline(opened)
    whole = in_turns(
        {"hoirt": lambda: refine(refiner, job), "diffusers": lambda: run_pipeline(pipeline, job, opened)},
        rounds,
    )
    stages = [refine(refiner, job).timings.as_dict() for _ in range(rounds)]
    loops = [steps.loop() for _ in range(rounds + 1)][1:]
    torch_step = in_turns({"torch": steps.torch_step(pipeline)}, opened.settings.steps)["torch"]
    step = Seconds(tuple(float(s) for loop in loops for s in loop.step_seconds))
    outside = [1 - loop.network_seconds.sum() / loop.step_seconds.sum() for loop in loops]
    figures = [
        *_pair("one hand, end to end", whole["hoirt"], "diffusers", whole["diffusers"], 1.0, "s", 3.0),
        *_pair("one denoising step", step, "torch eager", torch_step, 1e3, "ms"),
        Figure("time of the loop outside the networks", float(np.median(outside)), "%", 0.03),
        # Half precision differs by rounding; in float32 a difference would mean other weights.
        Figure(
            "difference of the step networks' outputs",
            steps.disagreement(pipeline),
            bound=1e-3 if precision == "fp32" else None,
        ),
        Figure("peak memory, hoirt", peaks["hoirt"], "MiB"),
        Figure("peak memory, diffusers", peaks["diffusers"], "MiB"),
        *(
            Figure(f"stage {name}", 1e3 * float(np.median([s[name] for s in stages])), "ms")
            for name in stages[0]
            if name != "total"
        ),
    ]
    taken = {"hoirt": whole["hoirt"], "diffusers": whole["diffusers"], "step": step, "torch step": torch_step}
    return figures, taken


def start(pack: str, threads: int, precision: str, rounds: int) -> Measured:
    """Import, opening from a warm cache, building a schedule."""
    from bench.workload import Steps

    imported = in_fresh_processes("", "import hoirt", rounds)
    # The first round, which is not counted, fills the cache.
    call = f"hoirt.Refiner({pack!r}, threads={threads}, precision={precision!r})"
    opening = in_fresh_processes("import hoirt", call, rounds)
    opened = open_pack(pack)
    built = in_turns({"schedule": lambda: Steps(opened, threads).table}, 20 * rounds)["schedule"]
    figures = [
        Figure("import hoirt", imported.median, "s", 0.3),
        Figure("Refiner() from a warm cache", opening.median, "s", 1.0),
        Figure("building the step table", 1e3 * built.median, "ms"),
    ]
    return figures, {"import": imported, "Refiner": opening, "schedule": built}


def kernels(threads: int, rounds: int) -> Measured:
    """The guided step beside NumPy and torch eager, with and without a known region."""
    import torch

    from bench.kernels import KernelCase

    torch.set_num_threads(threads)
    figures: list[Figure] = []
    taken: dict[str, Seconds] = {}
    for known in (False, True):
        case = KernelCase(known)
        name = "guided step with known region" if known else "guided step"
        others = in_turns({"NumPy": case.numpy(), "torch": case.torch()}, 5 * rounds)
        ours = Seconds(tuple(np.concatenate([case.hoirt() for _ in range(rounds + 1)][1:]).tolist()))
        figures.append(Figure(f"{name}, hoirt", 1e3 * ours.median, "ms"))
        for other, seconds in others.items():
            figures.append(Figure(f"{name}, {other} / hoirt", seconds.median / ours.median, "x"))
        taken |= {name: ours, **{f"{name}, {other}": seconds for other, seconds in others.items()}}
    return figures, taken


def _pair(
    name: str, ours: Seconds, peer: str, theirs: Seconds, scale: float, unit: str, bound: float | None = None
) -> list[Figure]:
    return [
        Figure(f"{name}, {peer} / hoirt", theirs.median / ours.median, "x", bound, "at least"),
        Figure(f"{name}, {peer} / hoirt, best rounds", theirs.least / ours.least, "x"),
        Figure(f"{name}, hoirt", scale * ours.median, unit),
        Figure(f"{name}, {peer}", scale * theirs.median, unit),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pack", default="handrefiner-tiny", help="name or folder")
    parser.add_argument("--threads", type=int, default=cores, help="of both sides; all cores if not given")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"], help="of hoirt's networks")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=RESULTS / "speed.json")
    args = parser.parse_args(argv)
    measured = [
        start(args.pack, args.threads, args.precision, args.rounds),
        pipelines(args.pack, args.threads, args.precision, args.rounds),
        kernels(args.threads, args.rounds),
    ]
    figures = [figure for part, _ in measured for figure in part]
    rounds = {name: seconds.summary() for _, part in measured for name, seconds in part.items()}
    opened = open_pack(args.pack)
    pack = f"{opened.name} {opened.version}, {args.precision}"
    write_json(args.out, document("speed", figures, args.threads, pack=pack, seconds=rounds))
    print(table(figures))
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    raise SystemExit(main())
