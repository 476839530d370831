"""How fast, beside the diffusers pipeline: same pack, steps and threads, in one run.

    python -m bench.speed [--pack handrefiner-tiny] [--threads N] [--rounds 9] [--out FILE]

Prints each figure beside its bound; exit code 1 if a bound is missed. bench/README.md explains the figures.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import hoirt
import numpy as np
from hoirt.packs import open_pack

from bench import memory
from bench.record import RESULTS, Figure, document, table, write_json
from bench.stopwatch import Seconds, in_fresh_processes, in_turns

PRECISIONS = ("fp32", "bf16")
Measured = tuple[list[Figure], dict[str, Seconds]]


def pipelines(pack: str, threads: int, precision: str, rounds: int) -> Measured:
    """End to end, per step, memory, and the share of the loop outside the networks."""
    import torch

    from bench.peer import make_pipeline
    from bench.workload import Steps, open_workload, refine, run_pipeline

    opened, refiner, job, steps = open_workload(pack, threads, precision)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "job.npz"
        job.save(file)
        peaks = {side: memory.peak(side, file, pack, threads, precision) for side in ("hoirt", "diffusers")}
    torch.set_num_threads(threads)
    peers = {name: make_pipeline(opened, name) for name in PRECISIONS}
    exact = hoirt.Refiner(pack, threads=threads, precision="fp32")
    whole = in_turns(
        {
            "hoirt": lambda: refine(refiner, job),
            "hoirt fp32": lambda: refine(exact, job),
            **{f"diffusers {n}": partial(run_pipeline, peer, job, opened) for n, peer in peers.items()},
        },
        rounds,
    )
    stages = [refine(refiner, job).timings.as_dict() for _ in range(rounds)]
    loops = [steps.loop() for _ in range(rounds + 1)][1:]
    exact_steps = Steps(opened, threads, "fp32")
    step = in_turns(
        {
            "hoirt": steps.loop,
            "hoirt fp32": exact_steps.loop,
            **{f"torch {n}": steps.torch_step(peer) for n, peer in peers.items()},
        },
        2 * rounds,
    )
    count = opened.settings.steps
    step = {name: s.divided(count) if name.startswith("hoirt") else s for name, s in step.items()}
    outside = [1 - loop.network_seconds.sum() / loop.step_seconds.sum() for loop in loops]
    ours = refiner.precision
    figures = [
        *_compared("one hand, end to end", whole, ours, 1.0, "s", "diffusers", 3.0),
        *_compared("one denoising step", step, ours, 1e3, "ms", "torch"),
        Figure("time of the loop outside the networks", float(np.median(outside)), "%", 0.03),
        Figure(
            f"difference of the step networks' outputs, {ours} from torch fp32",
            steps.disagreement(peers["fp32"]),
        ),
        Figure(
            "difference of the step networks' outputs, fp32",
            exact_steps.disagreement(peers["fp32"]),
            bound=1e-3,
        ),
        Figure("peak memory, hoirt", peaks["hoirt"], "MiB"),
        Figure("peak memory, diffusers fp32", peaks["diffusers"], "MiB"),
        *(
            Figure(f"stage {name}", 1e3 * float(np.median([s[name] for s in stages])), "ms")
            for name in stages[0]
            if name != "total"
        ),
    ]
    return figures, {**whole, **{f"step, {name}": taken for name, taken in step.items()}}


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


def _compared(
    what: str,
    taken: dict[str, Seconds],
    precision: str,
    scale: float,
    unit: str,
    peer: str,
    bound: float | None = None,
) -> list[Figure]:
    """How many times the peer's median time is ours, then all medians; the bound is on the first ratio.

    taken: of "hoirt", which chose `precision` itself, "hoirt fp32", and `peer` in fp32 and bf16.
    """
    said = {"hoirt": f"hoirt {precision}, automatic"}

    def ratio(ours: str, theirs: str, bound: float | None = None) -> Figure:
        value = taken[theirs].median / taken[ours].median
        return Figure(f"{what}, {theirs} / {said.get(ours, ours)}", value, "x", bound, "at least")

    return [
        ratio("hoirt", f"{peer} fp32", bound),
        ratio("hoirt", f"{peer} bf16"),
        ratio("hoirt fp32", f"{peer} fp32"),
        *(Figure(f"{what}, {said.get(name, name)}", scale * s.median, unit) for name, s in taken.items()),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pack", default="handrefiner-tiny", help="name or folder")
    parser.add_argument("--threads", type=int, default=cores, help="of both sides; all cores if not given")
    parser.add_argument("--precision", default="auto", choices=["auto", *PRECISIONS], help="of hoirt")
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
    pack = f"{opened.name} {opened.version}"
    write_json(args.out, document("speed", figures, args.threads, pack=pack, seconds=rounds))
    print(table(figures))
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    raise SystemExit(main())
