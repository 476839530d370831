"""Adaptive control strength (paper, 3.2): the weakest under which a hand still follows its mesh."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hoirt.hands.hand import Hand
from hoirt.pipeline.result import Trial

REFERENCE = 1.0
STRENGTHS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
TOLERANCE = 1.15


def choose(error_at: Callable[[float], float]) -> tuple[Trial, list[Trial]]:
    """The trial that the paper's procedure selects, and all that were looked at, in order.

    error_at: strength -> 2-D MPJPE in pixels of the hands generated with it. It is asked for 1.0 first, then
    from 0.4 to 0.9, and no further once an error is below 1.15 times that at 1.0. If none is, 1.0 is chosen.
    (The release logs 1.0 then but saves the picture of 0.9; here the picture is that of the choice.)
    """
    reference = Trial(REFERENCE, error_at(REFERENCE))
    trials = [reference]
    for strength in STRENGTHS:
        trials.append(Trial(strength, error_at(strength)))
        if trials[-1].error < TOLERANCE * reference.error:
            return trials[-1], trials
    return reference, trials


def joint_error(wanted: Sequence[Hand], seen: Sequence[Hand]) -> float:
    """2-D MPJPE in pixels of the picture: the mean distance of the joints over all hands."""
    pairs = zip(wanted, seen, strict=True)
    return float(np.mean([np.linalg.norm(a.keypoints - b.keypoints, axis=1).mean() for a, b in pairs]))
