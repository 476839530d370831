"""Pictures of red blobs, which the random pack takes for hands."""

from __future__ import annotations

import hoirt
import numpy as np

RIGHT, LEFT = (230, 30, 60), (230, 60, 30)  # what the random pack's detector takes for hands


def scene(height: int = 120, width: int = 160, *, hands: int = 1) -> np.ndarray:
    """Noise with red blobs: a right hand, then a left one."""
    picture = np.random.default_rng(3).integers(60, 120, (height, width, 3)).astype(np.uint8)
    y, x = np.mgrid[:height, :width]
    places = [((0.5, 0.28), RIGHT), ((0.5, 0.75), LEFT)][:hands]
    for (down, across), colour in places:
        blob = (y - down * height) ** 2 + (x - across * width) ** 2 < (0.16 * min(height, width)) ** 2
        picture[blob] = colour
    return picture


def outside_is_identical(before: np.ndarray, result: hoirt.Result) -> bool:
    after = np.asarray(result.image)
    return np.array_equal(before[result.mask == 0], after[result.mask == 0])
