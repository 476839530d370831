"""The released HandRefiner's own rules for a hand's mask."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def released_mask(
    depth: NDArray[Any], landmarks: NDArray[np.float32], *, padding: int = 30
) -> NDArray[np.bool_]:
    """The rectangle around a hand's depth (H, W) and landmarks (21, 2), padded by 15 % or `padding`."""
    height, width = depth.shape
    rows, columns = np.nonzero(depth)
    x = np.concatenate([columns, landmarks[:, 0].astype(np.int64)])
    y = np.concatenate([rows, landmarks[:, 1].astype(np.int64)])
    mask = np.zeros(depth.shape, np.bool_)
    spans = []
    for values, size in ((y, height), (x, width)):
        low, high = int(values.min()), int(values.max())
        pad = max(int((high - low + 1) * 0.15), padding)
        spans.append(slice(max(low - pad, 0), min(high + pad, size - 1) + 1))
    mask[spans[0], spans[1]] = True
    return mask
