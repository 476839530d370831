"""The region to regenerate: silhouette or visible hand, grown; and its soft inner edge."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hoirt.hands.hand import Hand
from hoirt.hands.window import Window

Mask = NDArray[np.bool_]


def visible_hand(hand: Hand, crop: Window, window: Window, size: tuple[int, int]) -> Mask:
    """Where the mesh network saw hand (probability > 0.5), bool `size` (h, w), looked up through `window`.

    `crop` is the window that `hand.region` covers; beyond it, and without a region, the answer is False.
    """
    seen = np.zeros(size, np.bool_)
    if hand.region is None:
        return seen
    rows, row_hit = _lookup(size[0], window.top, window.height, crop.top, crop.height, hand.region.shape[0])
    columns, column_hit = _lookup(
        size[1], window.left, window.width, crop.left, crop.width, hand.region.shape[1]
    )
    seen[np.ix_(row_hit, column_hit)] = hand.region[np.ix_(rows[row_hit], columns[column_hit])] > 0.5
    return seen


def grow(mask: Mask, radius: int) -> Mask:
    """`mask` (h, w) dilated by a disc of `radius` pixels."""
    from hoirt import _core

    return np.asarray(_core.grow(mask, radius))


def soften(mask: Mask, width: float, *, fade_at_border: bool) -> NDArray[np.float32]:
    """Opacity float32 (h, w): 0 outside, rising smoothly over `width` pixels inside, so the edge lies in the
    mask; with a width below 1 it is 0 or 1.

    `fade_at_border` says whether what lies beyond the array counts as outside: yes for a crop, no for a
    picture.
    """
    from hoirt import _core

    return np.asarray(_core.soften(mask, width, fade_at_border=fade_at_border))


def distance(mask: Mask, limit: int) -> NDArray[np.float32]:
    """Euclidean distance in pixels from every pixel to the nearest True one, exact up to `limit`, larger
    beyond.
    """
    from hoirt import _core

    return np.asarray(_core.distance(mask, limit))


def _lookup(
    count: int, start: int, length: int, crop_start: int, crop_length: int, cells: int
) -> tuple[NDArray[np.intp], Mask]:
    """For each of `count` samples over a window: the cell of the crop under its centre, and whether there is
    one.
    """
    position = start + (np.arange(count) + 0.5) * length / count
    index = np.floor((position - crop_start) * cells / crop_length).astype(np.intp)
    return index, (index >= 0) & (index < cells)
