"""The colour match in NumPy, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

CELL = 4


def match_colours(colours: NDArray[np.float32], original: NDArray[np.uint8], hole: NDArray[Any]) -> Doubles:
    """hoirt._core.match_colours: colours (h, w, 3) of 0..255, the original, and the hole (h, w)."""
    kept = (hole == 0)[..., None].astype(np.float64)
    if not kept.any():
        return colours.astype(np.float64)
    shift = extended(*coarser((original.astype(np.float64) - colours) * kept, kept, CELL))
    return np.clip(colours + stretched(shift, hole.shape), 0, 255)


def extended(values: Doubles, weights: Doubles) -> Doubles:
    """Weighted means where there is weight, elsewhere those of coarser and coarser levels."""
    mean = values / np.maximum(weights, 1e-6)
    if max(weights.shape[:2]) == 1:
        return mean
    below = stretched(extended(*coarser(values, weights, 2)), weights.shape)
    return weights * mean + (1 - weights) * below


def stretched(values: Doubles, shape: tuple[int, ...]) -> Doubles:
    """To (h, w) of the shape, linear between the centres, constant beyond the outermost."""
    for axis in (0, 1):
        size, finer = values.shape[axis], shape[axis]
        at = np.clip((np.arange(finer) + 0.5) * size / finer - 0.5, 0, size - 1)
        low = at.astype(np.int64)
        share = np.expand_dims(at - low, (1, 2) if axis == 0 else (0, 2))
        high = np.minimum(low + 1, size - 1)
        values = (1 - share) * values.take(low, axis) + share * values.take(high, axis)
    return values


def coarser(values: Doubles, weights: Doubles, by: int) -> tuple[Doubles, Doubles]:
    """Means over cells of `by` x `by`; the weight of a cell is the share of it that is known."""
    height, width = weights.shape[:2]
    margins = ((0, -height % by), (0, -width % by), (0, 0))

    def means(array: Doubles) -> Doubles:
        padded = np.pad(array, margins)
        h, w = padded.shape[0] // by, padded.shape[1] // by
        return np.asarray(padded.reshape(h, by, w, by, -1).mean(axis=(1, 3)))

    return means(values), means(weights)
