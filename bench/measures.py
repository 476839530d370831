"""The arithmetic of the quality benchmark: what the judge says, in figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from bench.judges.network import Judge

Floats = NDArray[np.float64]
_BATCH = 50


class Seen(NamedTuple):
    """What the judge sees in N crops, float64: logits (N,), joints (N, 21, 2) pixels, features (N, D)."""

    logits: Floats
    joints: Floats
    features: Floats


def judged(judge: Judge, crops: Sequence[NDArray[np.uint8]]) -> Seen:
    """Shows RGB uint8 crops (128, 128, 3) to the judge."""
    parts = []
    for start in range(0, len(crops), _BATCH):
        images = torch.from_numpy(np.stack(crops[start : start + _BATCH])).permute(0, 3, 1, 2).float() / 255.0
        with torch.inference_mode():
            parts.append([values.double().numpy() for values in judge(images)])
    return Seen(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def flagged(logits: Floats) -> float:
    """Share of crops (N,) that the judge calls malformed: logit above zero, its threshold."""
    return float(np.mean(logits > 0.0))


def joint_errors(found: NDArray[np.floating], expected: NDArray[np.floating]) -> Floats:
    """Mean distance (N,) over the 21 joints between two sets (N, 21, 2), in their pixels."""
    return np.asarray(np.linalg.norm(found - expected, axis=-1).mean(axis=-1), np.float64)


def mean(values: Sequence[float] | Floats) -> float:
    """The mean, or NaN of nothing."""
    return float(np.mean(values)) if len(values) else float("nan")


def largest_rise(curve: Sequence[float]) -> float:
    """How far a curve that should fall ever rises above its lowest value so far, as a share of its fall.

    Infinite if it ends no lower than it began.
    """
    values = np.asarray(curve, np.float64)
    fall = values[0] - values[-1]
    if fall <= 0:
        return float("inf")
    return float((values - np.minimum.accumulate(values)).max() / fall)
