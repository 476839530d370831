"""The paper's Table 3 on synthetic hands: what depth, strength and negative prompt do to a repainted hand.

    python -m bench.table3 [--count 200] [--pack handrefiner-tiny] [--out bench/results/table3.json]

Prints our table beside the paper's, then each figure beside its bound; exit code 1 if a bound is missed.
bench/README.md explains the columns and what compares.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import hoirt
import numpy as np
import torch
from tqdm import tqdm

from bench import distances
from bench.drawings import repaint_sheet
from bench.held_out import FIRST, Example, Image, Points, example
from bench.judges import network
from bench.judges.network import Judge, frechet_distance
from bench.measures import flagged, joint_errors, judged, mean
from bench.record import RESULTS, Figure, document, finite, table, write_json
from bench.repaint import Configuration, Detect, Refine, Repaint, confidence, repaint_all
from bench.report import markdown

IMAGES = Path(__file__).parents[1] / "docs" / "images"
# The negative prompt of HandRefiner's program; its first words are the ones that the paper's table is about.
NEGATIVE = (
    "fake 3D rendered image, longbody, lowres, bad anatomy, bad hands, missing fingers, extra digit, "
    "fewer digits, cropped, worst quality, low quality, blue"
)
GENERAL, NO_CONTROL, PLAIN = "general depth, 0.55", "no control", "hand depth, 0.55"
NEGATED, FULL, ADAPTIVE = f"{PLAIN}, negative", "hand depth, 1.0, negative", "hand depth, adaptive, negative"
ROWS = (
    Configuration(GENERAL, "general", 0.55, "", (18.971, 17.722)),
    Configuration(NO_CONTROL, "hand", 0.0, "", None),
    Configuration(PLAIN, "hand", 0.55, "", (14.357, 8.576)),
    Configuration(NEGATED, "hand", 0.55, NEGATIVE, (13.977, 7.878)),
    Configuration(FULL, "hand", 1.0, NEGATIVE, (14.959, 7.150)),
    Configuration(ADAPTIVE, "hand", "adaptive", NEGATIVE, (13.823, 6.330)),
)
TRUTH = "true hands of other pictures"
COLUMNS = (
    "condition, strength, prompt",
    "Fréchet",
    "paper's FID",
    "kernel",
    "joint error, px",
    "paper's MPJPE, px",
    "detector",
    "flagged",
)


@dataclass(frozen=True)
class Line:
    """One measured row of the table.

    Attributes:
        name: as printed. paper: its Frechet distance and joint error, or None.
        frechet, frechet_scipy: by torchmetrics and by `bench.judges`. kernel: by torchmetrics.
        joint_error: mean distance of the judge's joints from the conditioning mesh's, crop pixels.
        confidence: mean score of the detector. flagged: share that the judge calls malformed.
    """

    name: str
    paper: tuple[float, float] | None
    frechet: float
    frechet_scipy: float
    kernel: float
    joint_error: float
    confidence: float
    flagged: float

    def cells(self) -> list[str]:
        """The row as text, in the order of COLUMNS."""
        fid, mpjpe = ("", "") if self.paper is None else (f"{value:.3f}" for value in self.paper)
        distances = [f"{self.frechet:.2f}", fid, f"{self.kernel:.3f}"]
        errors = [f"{self.joint_error:.2f}", mpjpe]
        return [self.name, *distances, *errors, f"{self.confidence:.3f}", f"{100 * self.flagged:.1f} %"]


@dataclass(frozen=True, eq=False)
class Report:
    """What was measured; `repaints` by the name of the row, one for each of `examples`."""

    lines: list[Line]
    examples: list[Example]
    repaints: Mapping[str, list[Repaint]]

    @property
    def table(self) -> list[list[str]]:
        """Header and rows as text."""
        return [list(COLUMNS), *(line.cells() for line in self.lines)]


class Ruler:
    """Measures sets of crops against the true hands of the examples."""

    def __init__(self, judge: Judge, truths: list[Image]) -> None:
        self._judge = judge
        self._truths = truths
        self._features = judged(judge, truths).features

    def line(
        self,
        name: str,
        paper: tuple[float, float] | None,
        crops: list[Image],
        joints: list[Points],
        scores: list[float],
    ) -> Line:
        """The row of crops (128, 128, 3) that were conditioned on `joints` (21, 2)."""
        seen = judged(self._judge, crops)
        return Line(
            name,
            paper,
            frechet=distances.frechet(self._judge, self._truths, crops),
            frechet_scipy=frechet_distance(self._features, seen.features),
            kernel=distances.kernel(self._judge, self._truths, crops),
            joint_error=mean(joint_errors(seen.joints, np.stack(joints))),
            confidence=mean(scores),
            flagged=flagged(seen.logits),
        )


def measure(refine: Refine, detect: Detect, judge: Judge, count: int) -> Report:
    """Paints the hands of `count` well-formed pictures anew in every row; as many others stand for truth."""
    examples, others = (
        [example(seed) for seed in tqdm(range(first, first + count), desc="pictures")]
        for first in (FIRST, FIRST + count)
    )
    ruler = Ruler(judge, [one.cut(one.picture.image) for one in examples])
    repaints = repaint_all(refine, detect, examples, ROWS)
    lines = []
    for how in ROWS:
        made = repaints[how.name]
        columns = [r.crop for r in made], [r.joints for r in made], [r.confidence for r in made]
        lines.append(ruler.line(how.name, how.paper, *columns))
    columns = (
        [one.cut(one.picture.image) for one in others],
        [one.keypoints for one in others],
        [confidence(detect(one.picture.image, threshold=0.0), one.picture.hands[0].box) for one in others],
    )
    lines.append(ruler.line(TRUTH, None, *columns))
    return Report(lines, examples, repaints)


def figures(report: Report) -> list[Figure]:
    """The paper's statements as ratios. Bounds: that the depth leads, and that full control loses nothing."""
    by_name = {line.name: line for line in report.lines}

    def ratio(what: str, column: int, above: str, below: str, bound: float | None = None) -> Figure:
        key = ("frechet", "joint_error")[column]
        a, b = by_name[above], by_name[below]
        note = f"paper {a.paper[column] / b.paper[column]:.3f}" if a.paper and b.paper else ""
        name = f"{('Fréchet distance', 'joint error')[column]}, {what}"
        return Figure(name, getattr(a, key) / getattr(b, key), "", bound, note=note)

    apart = max(abs(line.frechet_scipy / line.frechet - 1.0) for line in report.lines)
    runs = [float(made.runs) for made in report.repaints[ADAPTIVE]]
    seconds = {name: mean([r.seconds for r in made]) for name, made in report.repaints.items()}
    return [
        Figure("hands in every row", len(report.examples)),
        ratio("hand depth / general depth", 1, PLAIN, GENERAL, 1.0),
        ratio("hand depth / no control", 1, PLAIN, NO_CONTROL, 0.7),
        ratio("negative prompt / none", 1, NEGATED, PLAIN),
        ratio("strength 1 / 0.55", 1, FULL, NEGATED, 1.05),
        ratio("adaptive / 0.55", 1, ADAPTIVE, NEGATED),
        ratio("hand depth / general depth", 0, PLAIN, GENERAL, 1.0),
        ratio("hand depth / no control", 0, PLAIN, NO_CONTROL),
        ratio("negative prompt / none", 0, NEGATED, PLAIN),
        ratio("strength 1 / 0.55", 0, FULL, NEGATED),
        ratio("adaptive / 0.55", 0, ADAPTIVE, NEGATED),
        Figure(
            "adaptive: runs of a hand, in order", mean(runs), note="mean; paper: more than 3.5 times the cost"
        ),
        Figure("adaptive: time / that at 0.55", seconds[ADAPTIVE] / seconds[NEGATED], "x"),
        Figure(
            "Fréchet distance, SciPy apart from torchmetrics", apart, "", 1e-3, note="largest of the rows"
        ),
    ]


def details(report: Report) -> dict[str, Any]:
    """What the JSON file holds besides the figures."""
    chosen = Counter(f"{made.strength:g}" for made in report.repaints[ADAPTIVE])
    return {
        "seeds": {"first": FIRST, "count": len(report.examples)},
        "negative_prompt": NEGATIVE,
        "table": report.table,
        "rows": [
            {key: finite(value) if isinstance(value, float) else value for key, value in asdict(line).items()}
            for line in report.lines
        ],
        "adaptive_chosen": dict(sorted(chosen.items())),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=200, help="pictures, at least 4")
    parser.add_argument("--pack", default="handrefiner-tiny", help="name or folder")
    parser.add_argument(
        "--threads", type=int, default=None, help="threads of a network; all cores if not given"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "table3.json")
    parser.add_argument("--images", type=Path, default=IMAGES, help="folder of the drawing")
    args = parser.parse_args(argv)
    if args.count < 4:
        parser.error("the distances of halves of the sets need at least 4 pictures")
    if args.threads:
        torch.set_num_threads(args.threads)
    refiner = hoirt.Refiner(args.pack, threads=args.threads)
    report = measure(refiner, refiner.detect, network.load(), args.count)
    shown = figures(report)
    write_json(args.out, document("table3", shown, args.threads, pack=refiner.pack, **details(report)))
    print(markdown(report.table))
    print(table(shown))
    columns = {name: [r.image for r in made] for name, made in report.repaints.items()}
    repaint_sheet(report.examples, columns, args.images / "table3.png")
    return 0 if all(figure.holds for figure in shown) else 1


if __name__ == "__main__":
    raise SystemExit(main())
