"""Crops, order and masks of hands exactly as the released HandRefiner has them, for its faithful mode.

The geometry is that of `preprocessor/meshgraphormer.py` (wenquanlu/HandRefiner, f07e196). Landmarks are
mediapipe's: (21, 2), x / width and y / height, which may lie outside of 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import InputError

CROP = 224  # side of the mesh network's input
_CUBIC = -0.75  # OpenCV's parameter of the cubic convolution (Keys 1981)
_SLIVER = 1e-3  # of a pixel, which OpenCV's area averages leave out
_LARGER = 1.6  # side of the crop over the landmarks' extent
_SHARE = 0.15  # of its extent that a mask is larger on each side, at least
MIDDLE_KNUCKLE = 9  # the landmark whose depth orders the hands


@dataclass(frozen=True)
class ReleasedCrop:
    """A square of the picture: `left`, `top` of its first pixel and its even `side`, in pixels.

    It may hang over the border, where everything is black.
    """

    left: int
    top: int
    side: int

    def look(
        self, picture: NDArray[np.uint8], *, mirrored: bool = False, wrap: bool = True
    ) -> NDArray[np.uint8]:
        """The crop of an RGB uint8 picture (H, W, 3) at (224, 224, 3), as the mesh network sees it.

        Enlarged by cubic convolution, shrunk by area averages, as OpenCV's INTER_CUBIC and INTER_AREA do.
        `mirrored`: flipped from left to right, for left hands. `wrap`: values beyond 0..255 of the cubic wrap
        around modulo 256, as they do when the released code casts floats to bytes; False clips them.
        """
        source = np.zeros((self.side, self.side, 3))
        top, left = max(self.top, 0), max(self.left, 0)
        bottom = max(top, min(self.top + self.side, picture.shape[0]))
        right = max(left, min(self.left + self.side, picture.shape[1]))
        source[top - self.top : bottom - self.top, left - self.left : right - self.left] = picture[
            top:bottom, left:right
        ]
        if mirrored:
            source = source[:, ::-1]
        weights = _cubic(self.side, CROP) if self.side < CROP else _area(self.side, CROP)
        values = np.einsum("ia,abc,jb->ijc", weights, source, weights, optimize=True)
        if not wrap:
            values = np.clip(values, 0, 255)
        return np.asarray(np.trunc(values).astype(np.int64) & 255, np.uint8)


def released_crop(landmarks: NDArray[Any], size: tuple[int, int]) -> ReleasedCrop:
    """The crop of a hand from its landmarks in a picture of `size` (H, W).

    Bounds are truncated to whole pixels, the side is 1.6 times the longer of them made even. Unlike the
    released code it does not fail where the crop is larger than twice the picture.

    Raises:
        InputError: landmarks of another shape, not finite, or all in one pixel.
    """
    x0, x1, y0, y1 = _bounds(landmarks, size)
    side = int((max(x1 - x0, y1 - y0) * _LARGER) // 2 * 2)
    if side < 2:
        raise InputError("landmarks lie within one pixel, so there is no hand to crop")
    x, y = (x0 + x1) // 2, (y0 + y1) // 2
    return ReleasedCrop(_first(x, side, size[1]), _first(y, side, size[0]), side)


def released_order(z: Sequence[float]) -> list[int]:
    """Indices of hands from far to near by the z of landmark 9 of each (smaller is nearer): later ones are
    drawn over earlier ones.
    """
    return sorted(range(len(z)), key=lambda hand: z[hand], reverse=True)


def released_mask(
    depth: Sequence[NDArray[Any]], landmarks: Sequence[NDArray[Any]], size: tuple[int, int], padding: int = 30
) -> NDArray[np.uint8]:
    """The union of the hands' rectangles, uint8 (H, W): 255 = regenerate, 0 = keep.

    Args:
        depth: of each hand alone, (H, W), 0 = background.
        landmarks: of each hand, (21, 2).
        size: (H, W).
        padding: pixels that a rectangle is larger on each side than depth and landmarks, if that is more than
            0.15 of its extent.
    """
    if len(depth) != len(landmarks):
        raise InputError(f"{len(depth)} depth maps for {len(landmarks)} hands")
    height, width = size
    mask = np.zeros(size, np.uint8)
    for index, (drawn, points) in enumerate(zip(depth, landmarks, strict=True)):
        if drawn.shape != size:
            raise InputError(f"depth[{index}] is {drawn.shape}, but the picture is {size}")
        x0, x1, y0, y1 = _bounds(points, size)
        rows, columns = np.nonzero(drawn)
        if len(rows):
            x0, x1 = min(x0, int(columns.min())), max(x1, int(columns.max()))
            y0, y1 = min(y0, int(rows.min())), max(y1, int(rows.max()))
        across, down = max(int((x1 - x0 + 1) * _SHARE), padding), max(int((y1 - y0 + 1) * _SHARE), padding)
        bottom, right = min(y1 + down, height - 1) + 1, min(x1 + across, width - 1) + 1
        mask[max(y0 - down, 0) : max(bottom, 0), max(x0 - across, 0) : max(right, 0)] = 255
    return mask


def _bounds(landmarks: NDArray[Any], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """First and last column, first and last row of the landmarks, truncated towards zero."""
    points = np.asarray(landmarks, np.float64)
    if points.shape != (21, 2) or not np.isfinite(points).all():
        raise InputError(f"landmarks must be 21 finite points (21, 2), not {points.shape}")
    if np.abs(points).max() > 1e4:
        raise InputError("landmarks are fractions of the picture's width and height, not pixels")
    (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
    return int(x0 * size[1]), int(x1 * size[1]), int(y0 * size[0]), int(y1 * size[0])


def _first(centre: int, side: int, length: int) -> int:
    """First pixel of a crop; the released code counts on a canvas that begins half a picture before."""
    return int(centre - (side / 2 - 1) + length / 2) - length // 2


def _cubic(source: int, wanted: int) -> NDArray[np.float64]:
    """(wanted, source) weights of a cubic convolution between pixel centres; the border is repeated.

    In float32, as OpenCV computes positions and weights: the cast to bytes truncates, so digits count.
    """
    position = ((np.arange(wanted) + 0.5) * (source / wanted) - 0.5).astype(np.float32)
    start = np.floor(position).astype(int)
    x, one, a = position - start.astype(np.float32), np.float32(1), np.float32(_CUBIC)
    before = ((a * (x + one) - 5 * a) * (x + one) + 8 * a) * (x + one) - 4 * a
    left = ((a + 2) * x - (a + 3)) * x * x + one
    right = ((a + 2) * (one - x) - (a + 3)) * (one - x) * (one - x) + one
    weights = np.zeros((wanted, source))
    for tap, share in enumerate((before, left, right, one - before - left - right), -1):
        np.add.at(weights, (np.arange(wanted), np.clip(start + tap, 0, source - 1)), share)
    return weights


def _area(source: int, wanted: int) -> NDArray[np.float64]:
    """(wanted, source) shares of each source pixel in each wanted one, in float32 as OpenCV's."""
    step = source / wanted
    weights = np.zeros((wanted, source))
    for row in range(wanted):
        low, high = row * step, min((row + 1) * step, source)
        for pixel in range(floor(low), min(ceil(high), source)):
            covered = min(high, pixel + 1) - max(low, pixel)
            if covered > _SLIVER:
                weights[row, pixel] = np.float32(covered / (high - low))
    return weights
