"""Window: a rectangle of the picture (it may hang over the border) and the square crop of a hand box."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

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

    def cut(self, picture: NDArray[Any]) -> NDArray[Any]:
        """The pixels under the window, (height, width, ...); outside the picture its edge pixels are
        repeated.
        """
        height, width = picture.shape[:2]
        rows, columns = self.clipped((height, width))
        if (rows.stop - rows.start, columns.stop - columns.start) == (self.height, self.width):
            return np.asarray(picture[rows, columns])
        across = np.arange(self.left, self.left + self.width).clip(0, width - 1)
        down = np.arange(self.top, self.top + self.height).clip(0, height - 1)
        return np.asarray(picture[down[:, None], across])

    def clipped(self, size: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of the part that lies on a picture of `size` (H, W); empty slices if none does."""
        top, left = max(self.top, 0), max(self.left, 0)
        bottom, right = min(self.top + self.height, size[0]), min(self.left + self.width, size[1])
        return slice(top, max(top, bottom)), slice(left, max(left, right))


def to_network(pictures: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """RGB uint8 pictures (h, w, 3) of one size as a batch (N, 3, h, w), float32 0..1."""
    batch = np.stack(pictures).transpose(0, 3, 1, 2).astype(np.float32)
    batch *= np.float32(1 / 255)
    return np.ascontiguousarray(batch)
