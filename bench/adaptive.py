"""What adaptive control strength costs and gains, and how often its preview makes the same choice.

    python -m bench.adaptive [--count 60] [--pack handrefiner-tiny] [--out bench/results/adaptive.json]

Held-out malformed pictures are refined with a fixed strength of 0.55, with 1.0, with "adaptive", and with
"adaptive" judged from a preview at several fractions of the steps. bench/README.md explains the figures.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import hoirt
import numpy as np
import torch
from hoirt.pipeline.adaptive import REFERENCE, STRENGTHS
from tqdm import tqdm

from bench.held_out import FIRST, Example, example
from bench.judges import network
from bench.judges.network import Judge
from bench.measures import flagged, joint_errors, judged, mean
from bench.record import RESULTS, Figure, document, table, write_json

PREVIEWS = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Way:
    """One way to choose the strength, over all pictures in which a hand was found.

    Attributes:
        chosen: strengths. seconds: of the whole call. flagged: share of hands that the judge calls malformed.
        error: mean joint error of the judge to the conditioning mesh, pixels of the crop.
        trials: mean number of strengths that were tried; 0 for a fixed one.
    """

    chosen: list[float]
    seconds: list[float]
    flagged: float
    error: float
    trials: float


def measure(refiner: hoirt.Refiner, judge: Judge, count: int) -> list[Figure]:
    """Figures over `count` held-out pictures."""
    examples = [example(seed) for seed in tqdm(range(FIRST, FIRST + count), desc="pictures")]
    run = partial(_run, refiner, judge, examples)
    fixed, full = run("fixed", strength=0.55), run("at 1.0", strength=REFERENCE)
    adaptive = run("adaptive", strength="adaptive")
    previews = {p: run(f"preview {p:g}", strength="adaptive", preview=p) for p in PREVIEWS}

    def cost(way: Way) -> float:
        return statistics.mean(way.seconds) / statistics.mean(fixed.seconds)

    figures = [
        Figure(
            "cost of adaptive / one fixed strength", cost(adaptive), "x", note="the paper: more than 3.5 x"
        ),
        Figure("strengths tried, mean", adaptive.trials, note="2 to 7"),
        Figure("strength chosen, mean", statistics.mean(adaptive.chosen)),
    ]
    for strength in (*STRENGTHS, REFERENCE):
        share = statistics.mean(abs(chosen - strength) < 1e-9 for chosen in adaptive.chosen)
        figures.append(Figure(f"pictures that got strength {strength:g}", share, "%"))
    for name, way in (("0.55", fixed), ("1.0", full), ("adaptive", adaptive)):
        figures.append(Figure(f"repaired flagged, strength {name}", way.flagged, "%"))
        figures.append(Figure(f"joint error, strength {name}", way.error, "px"))
    for fraction, way in previews.items():
        pairs = list(zip(way.chosen, adaptive.chosen, strict=True))
        name = f"preview at {fraction:g} of the steps"
        figures += [
            Figure(f"{name}: same choice", statistics.mean(abs(a - b) < 1e-9 for a, b in pairs), "%"),
            Figure(f"{name}: mean distance of the choices", statistics.mean(abs(a - b) for a, b in pairs)),
            Figure(f"{name}: cost / one fixed strength", cost(way), "x"),
            Figure(f"{name}: repaired flagged", way.flagged, "%"),
            Figure(f"{name}: joint error", way.error, "px"),
        ]
    return figures


def _run(
    refiner: hoirt.Refiner, judge: Judge, examples: Sequence[Example], label: str, **options: Any
) -> Way:
    chosen, seconds, crops, meshes, trials = [], [], [], [], []
    for one in tqdm(examples, desc=label):
        result = refiner(one.picture.malformed, seed=one.seed, **options)
        hand = one.same_hand(result.hands)
        if hand is None:  # the same pictures in every way: what is found does not depend on the strength
            continue
        assert result.image is not None
        chosen.append(result.strength)
        seconds.append(result.timings.total)
        trials.append(len(result.trials))
        crops.append(one.cut(result.image))  # type: ignore[arg-type]
        meshes.append(one.points(hand.keypoints))
    seen = judged(judge, crops)
    error = mean(joint_errors(seen.joints, np.stack(meshes)))
    return Way(chosen, seconds, flagged(seen.logits), error, statistics.mean(trials))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=60, help="pictures, at least 2")
    parser.add_argument("--pack", default="handrefiner-tiny", help="name or folder")
    parser.add_argument(
        "--threads", type=int, default=None, help="threads of a network; all cores if not given"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "adaptive.json")
    args = parser.parse_args(argv)
    if args.count < 2:
        parser.error("a mean of one picture says nothing; at least 2")
    if args.threads:
        torch.set_num_threads(args.threads)
    refiner = hoirt.Refiner(args.pack, threads=args.threads)
    figures = measure(refiner, network.load(), args.count)
    write_json(args.out, document("adaptive", figures, args.threads, pack=refiner.pack))
    print(table(figures))
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    raise SystemExit(main())
