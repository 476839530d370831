"""Resampling: Pillow's antialiased filters for 8-bit and float arrays, whole or a part at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]


def resize(
    array: NDArray[Any], size: tuple[int, int], *, box: Box | None = None, smooth: bool = True
) -> NDArray[Any]:
    """`array`, uint8 or float32, (H, W) or (H, W, C), resampled to `size` (h, w) with its dtype kept.

    `box` = (x0, y0, x1, y1) in source pixels selects the part that fills `size`; neighbours beyond the box
    still count in the filter, so parts of one picture join without seams. `smooth` picks bicubic for 8 bit
    and bilinear for float (which never overshoots), both antialiased when shrinking; otherwise the nearest
    pixel.
    """
    if box is None and array.shape[:2] == size:
        return array
    if array.dtype == np.float32:
        from hoirt import _core  # the bits of Pillow, which takes one channel at a time

        resized: NDArray[Any] = _core.resize(array, size, box=box, filter="bilinear" if smooth else "nearest")
        return resized
    from PIL import Image

    method = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(np.ascontiguousarray(array)).resize((size[1], size[0]), method, box))
