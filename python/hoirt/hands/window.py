"""Window: a rectangle of the picture (it may hang over the border) and the square crop of a hand box."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hoirt.imaging import resize

Box: TypeAlias = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels of the picture


@dataclass(frozen=True)
class Window:
    """Integer pixels of the picture: columns left .. left + width, rows top .. top + height."""

    left: int
    top: int
    width: int
    height: int

    @classmethod
    def around(cls, box: Box, scale: float = 1.0) -> Window:
        """The square of `scale` times the longer side of `box`, around its centre; at least 8 pixels."""
        x0, y0, x1, y1 = box
        side = max(8, round(scale * max(x1 - x0, y1 - y0)))
        return cls(round((x0 + x1 - side) / 2), round((y0 + y1 - side) / 2), side, side)

    @classmethod
    def whole(cls, size: tuple[int, int]) -> Window:
        """The window that is the picture of `size` (H, W)."""
        return cls(0, 0, size[1], size[0])

    def look(
        self, picture: NDArray[np.uint8], size: tuple[int, int], *, smooth: bool = True
    ) -> NDArray[np.uint8]:
        """The window of a `picture` (H, W) or (H, W, 3) resampled to `size` (h, w).

        Where the window hangs over the border, the samples at the edge are repeated. Only the part on the
        picture is resampled, so the cost does not grow with the window. `smooth` as in `resize`.
        """
        seen = self.seen((picture.shape[0], picture.shape[1]), size)
        inner = resize(picture, seen.size, box=seen.box, smooth=smooth)
        (height, width), (rows, columns) = size, seen.size
        margins = [(seen.top, height - seen.top - rows), (seen.left, width - seen.left - columns)]
        return np.pad(inner, margins + [(0, 0)] * (picture.ndim - 2), mode="edge")

    def seen(self, picture: tuple[int, int], size: tuple[int, int]) -> Seen:
        """The samples of `size` (h, w) that see nothing but the picture of that size (H, W)."""
        across = _inner(self.left, self.width, picture[1], size[1])
        down = _inner(self.top, self.height, picture[0], size[0])
        box = (across.start, down.start, across.stop, down.stop)
        return Seen(box, (down.count, across.count), down.first, across.first)

    def clipped(self, size: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of the part that lies on a picture of `size` (H, W); empty slices if none does."""
        top, left = max(self.top, 0), max(self.left, 0)
        bottom, right = min(self.top + self.height, size[0]), min(self.left + self.width, size[1])
        return slice(top, max(top, bottom)), slice(left, max(left, right))


@dataclass(frozen=True)
class Seen:
    """Samples of a window that lie on the picture.

    Attributes:
        box: (x0, y0, x1, y1), what they see of the picture. size: (rows, columns) of them. top, left: of
            the first.
    """

    box: Box
    size: tuple[int, int]
    top: int
    left: int


@dataclass(frozen=True)
class _Inner:
    """Along one axis: samples first .. first + count, which see pixels start .. stop of the picture."""

    first: int
    count: int
    start: float
    stop: float


def _inner(start: int, length: int, pixels: int, size: int) -> _Inner:
    """The samples that see nothing but picture; at least the one that sees most of it."""
    step = length / size  # pixels per sample
    # In whole numbers: a window that ends with the picture must not lose its last sample to rounding.
    first = min(max(-(start * size // length), 0), size - 1)
    last = max(min((pixels - start) * size // length, size), first + 1)
    low = min(max(start + first * step, 0.0), pixels - 1.0)
    high = min(max(start + last * step, low + 1.0), float(pixels))
    return _Inner(first, last - first, low, high)


def to_network(pictures: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """RGB uint8 pictures (h, w, 3) of one size as a batch (N, 3, h, w), float32 0..1."""
    batch = np.stack(pictures).transpose(0, 3, 1, 2).astype(np.float32)
    batch *= np.float32(1 / 255)
    return np.ascontiguousarray(batch)
