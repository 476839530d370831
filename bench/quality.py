"""Does it repair hands? Held-out malformed pictures, refined with default settings, before a judge.

    python -m bench.quality [--count 200] [--pack handrefiner-tiny] [--out bench/results/quality.json]

Prints each figure beside its bound; exit code 1 if a bound is missed. bench/README.md explains the figures.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hoirt
import numpy as np
import torch
from tqdm import tqdm

from bench.curve import DEFAULT_STRENGTH, Point, followed, joint_curve, run
from bench.drawings import contact_sheet, phase_transition
from bench.held_out import FIRST, Example, Refine, Repair, example
from bench.judges import network
from bench.judges.network import Judge, frechet_distance
from bench.measures import Floats, flagged, joint_errors, judged, largest_rise, mean
from bench.record import RESULTS, Figure, document, finite, table, write_json

IMAGES = Path(__file__).parents[1] / "docs" / "images"


@dataclass(frozen=True, eq=False)
class Report:
    """What was measured, and what is drawn of it.

    Attributes:
        figures: with their bounds. logits: of the judge, (N,) per kind of picture.
        examples, repairs: the pictures and their repairs at the default strength.
        curve: the joint curve. judge_error: the judge's own joint error on truths, pixels.
    """

    figures: list[Figure]
    logits: dict[str, Floats]
    examples: list[Example]
    repairs: list[Repair]
    curve: list[Point]
    judge_error: float


def measure(refine: Refine, judge: Judge, count: int, curve_count: int) -> Report:
    """Refines `count` malformed pictures and their twins, and the first `curve_count` at every strength."""
    examples = [example(seed) for seed in tqdm(range(FIRST, FIRST + count), desc="pictures")]
    malformed = judged(judge, [one.cut(one.picture.malformed) for one in examples])
    truth = judged(judge, [one.cut(one.picture.image) for one in examples])
    repairs = run(refine, examples, DEFAULT_STRENGTH, "malformed")
    kept = run(refine, examples, DEFAULT_STRENGTH, "well-formed", well=True)
    repaired, still = (judged(judge, [r.crop for r in done]) for done in (repairs, kept))
    curve = joint_curve(refine, judge, examples[:curve_count], repairs)

    judge_error = mean(joint_errors(truth.joints, np.stack([one.keypoints for one in examples])))
    error = mean(followed(repairs, repaired))
    found = [
        (r.joints, one.keypoints) for r, one in zip(repairs, examples, strict=True) if r.joints is not None
    ]
    before, after = (frechet_distance(s.features, truth.features) for s in (malformed, repaired))
    means = [point.mean for point in curve]
    figures = [
        Figure("malformed inputs flagged", flagged(malformed.logits), "%", 0.90, "at least"),
        Figure("well-formed truths flagged", flagged(truth.logits), "%", 0.05),
        Figure("repaired flagged", flagged(repaired.logits), "%", 0.25, note="the aim is 10 %"),
        Figure("well-formed, then refined, flagged", flagged(still.logits), "%", 0.25),
        Figure("Frechet distance to truths, repaired / malformed", after / before, "", 0.6),
        Figure("Frechet distance to truths, malformed", before),
        Figure("joint error at strength 0.55 / judge's own", error / judge_error, "", 2.0),
        Figure("joint error at strength 0.55", error, "px"),
        Figure("judge's own joint error on truths", judge_error, "px"),
        Figure("joint error at strength 1 / at strength 0", means[-1] / means[0], "", 1.0),
        Figure("largest rise of the joint curve / its fall", largest_rise(means), "", 0.15),
        Figure(
            "conditioning mesh's error to the true joints",
            mean([float(joint_errors(*pair)) for pair in found]),
            "px",
        ),
        Figure("malformed hands found", len(found) / count, "%"),
        Figure("time of a picture, median", statistics.median(r.seconds for r in repairs), "s"),
    ]
    logits = {"malformed": malformed, "truth": truth, "repaired": repaired, "refined_truth": still}
    return Report(
        figures, {key: seen.logits for key, seen in logits.items()}, examples, repairs, curve, judge_error
    )


def details(report: Report) -> dict[str, Any]:
    """What the JSON file holds besides the figures."""
    return {
        "seeds": {"first": FIRST, "count": len(report.examples), "curve": len(report.curve[0].repairs)},
        "curve": [
            {
                "strength": p.strength,
                "error_px": finite(p.mean),
                "standard_error_px": finite(p.standard_error),
            }
            for p in report.curve
        ],
        "logits": {key: [round(float(v), 3) for v in values] for key, values in report.logits.items()},
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=200, help="pictures, at least 2")
    parser.add_argument("--curve-count", type=int, default=60, help="pictures of the joint curve")
    parser.add_argument("--pack", default="handrefiner-tiny", help="name or folder")
    parser.add_argument(
        "--threads", type=int, default=None, help="threads of a network; all cores if not given"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "quality.json")
    parser.add_argument("--images", type=Path, default=IMAGES, help="folder of the drawings")
    args = parser.parse_args(argv)
    if min(args.count, args.curve_count) < 2:
        parser.error("a distance of two sets and the spread of a mean need at least 2 pictures")
    if args.threads:
        torch.set_num_threads(args.threads)
    refiner = hoirt.Refiner(args.pack, threads=args.threads)
    report = measure(refiner, network.load(), args.count, min(args.curve_count, args.count))
    content = document("quality", report.figures, args.threads, pack=refiner.pack, **details(report))
    write_json(args.out, content)
    print(table(report.figures))
    contact_sheet(report.examples, report.repairs, args.images / "repairs.png")
    phase_transition(report.curve, report.examples, report.judge_error, args.images / "phase_transition.png")
    return 0 if all(figure.holds for figure in report.figures) else 1


if __name__ == "__main__":
    raise SystemExit(main())
