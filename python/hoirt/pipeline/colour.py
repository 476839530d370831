"""Colour match: what the autoencoder shifts around the hole is taken back, smoothly into the hole."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hoirt.hands.mask import Mask
from hoirt.imaging import resize

Floats = NDArray[np.float32]

_CELL = 4  # pixels: finer differences are texture, not a shift of colours


def match_colours(colours: Floats, original: NDArray[np.uint8], hole: Mask) -> Floats:
    """Decoded `colours` (h, w, 3), float32 0..255, with the shift of the kept pixels taken out everywhere.

    The kept pixels show how decoded colours differ from the `original` (h, w, 3) uint8. That difference,
    averaged over cells and continued into the `hole` from its rim (push and pull through a pyramid, so the
    nearest kept pixels count most), is added. Without a kept pixel nothing is changed.
    """
    kept = (~hole)[..., None].astype(np.float32)
    if not kept.any():
        return colours
    shift = _extended(*_coarser((original.astype(np.float32) - colours) * kept, kept, _CELL))
    matched = colours + resize(shift, (hole.shape[0], hole.shape[1]))
    return np.asarray(np.clip(matched, 0, 255), np.float32)


def _extended(values: Floats, weights: Floats) -> Floats:
    """Weighted means where there is weight, elsewhere those of coarser and coarser levels."""
    mean = values / np.maximum(weights, np.float32(1e-6))
    if max(weights.shape[:2]) == 1:
        return np.asarray(mean, np.float32)
    below = _extended(*_coarser(values, weights, 2))
    trust = np.minimum(weights, np.float32(1))
    return np.asarray(trust * mean + (1 - trust) * resize(below, weights.shape[:2]), np.float32)


def _coarser(values: Floats, weights: Floats, by: int) -> tuple[Floats, Floats]:
    """Means over cells of `by` x `by`; the weight of a cell is the share of it that is known."""
    height, width = weights.shape[:2]
    margins = ((0, -height % by), (0, -width % by), (0, 0))

    def means(array: Floats) -> Floats:
        padded = np.pad(array, margins)
        h, w = padded.shape[0] // by, padded.shape[1] // by
        return np.asarray(padded.reshape(h, by, w, by, -1).mean(axis=(1, 3)), np.float32)

    return means(values), means(weights)
