"""The joint curve: how closely the repaired hand follows the mesh as the control strength grows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from bench.held_out import Example, Refine, Repair, repair
from bench.judges.network import Judge
from bench.measures import Floats, Seen, joint_errors, judged, mean

DEFAULT_STRENGTH = 0.55
STRENGTHS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, DEFAULT_STRENGTH, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True, eq=False)
class Point:
    """The joint curve at one control strength.

    Attributes:
        strength: of the control.
        errors: (N,) pixels from the judge's joints to the conditioning mesh's, of the hands that were found.
        repairs: of all examples of the curve.
    """

    strength: float
    errors: Floats
    repairs: list[Repair]

    @property
    def mean(self) -> float:
        return mean(self.errors)

    @property
    def standard_error(self) -> float:
        return (
            float(self.errors.std(ddof=1) / len(self.errors) ** 0.5) if len(self.errors) > 1 else float("nan")
        )


def followed(repairs: Sequence[Repair], seen: Seen) -> Floats:
    """Joint errors (N,) of the hands that were found: the judge's joints against the conditioning mesh's."""
    pairs = [(k, r.joints) for k, r in enumerate(repairs) if r.joints is not None]
    if not pairs:
        return np.empty(0)
    return joint_errors(seen.joints[[k for k, _ in pairs]], np.stack([joints for _, joints in pairs]))


def run(
    refine: Refine, examples: Sequence[Example], strength: float, what: str, well: bool = False
) -> list[Repair]:
    """Refines the malformed pictures, or the well-formed ones."""
    return [
        repair(refine, one, one.picture.image if well else one.picture.malformed, strength)
        for one in tqdm(examples, desc=what, unit="hand")
    ]


def joint_curve(
    refine: Refine, judge: Judge, examples: Sequence[Example], at_default: Sequence[Repair]
) -> list[Point]:
    """The curve over STRENGTHS; `at_default` holds the repairs at the default strength, done before."""
    points = []
    for strength in STRENGTHS:
        if strength == DEFAULT_STRENGTH:
            repairs = list(at_default[: len(examples)])
        else:
            repairs = run(refine, examples, strength, f"strength {strength:.2f}")
        seen = judged(judge, [r.crop for r in repairs])
        points.append(Point(strength, followed(repairs, seen), repairs))
    return points
