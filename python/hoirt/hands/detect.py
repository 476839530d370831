"""Hand detection: letterbox, decode the detector's maps, suppress double finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hoirt.hands.hand import Side
from hoirt.hands.window import Box, to_network
from hoirt.imaging import resize

if TYPE_CHECKING:
    from hoirt._core import Network

INPUT_SIZE = 192
MAX_HANDS = 8
_OVERLAP = 0.4  # intersection over union above which two boxes are one hand
_SMALLEST = 4.0  # pixels of the letterboxed picture


@dataclass(frozen=True)
class Detection:
    """A square box in pixels of the picture, the confidence 0..1 and the side."""

    box: Box
    score: float
    side: Side


@dataclass(frozen=True)
class Letterbox:
    """How a picture lies in the detector's square: scaled, centred, black around."""

    size: tuple[int, int]  # (H, W) of the picture
    scale_x: float
    scale_y: float
    left: int
    top: int

    def to_picture(self, x: float, y: float) -> tuple[float, float]:
        """Letterboxed coordinates in pixels of the picture."""
        return (x - self.left) / self.scale_x, (y - self.top) / self.scale_y

    def shows(self, x: float, y: float) -> bool:
        """Whether a point in pixels of the picture lies on it, and not on the black around."""
        return 0 <= x <= self.size[1] and 0 <= y <= self.size[0]


def letterbox(picture: NDArray[np.uint8], size: int = INPUT_SIZE) -> tuple[NDArray[np.uint8], Letterbox]:
    """RGB uint8 (H, W, 3) fitted into (size, size, 3), and the way back."""
    height, width = picture.shape[:2]
    scale = size / max(height, width)
    h, w = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (size - h) // 2, (size - w) // 2
    square = np.zeros((size, size, 3), np.uint8)
    square[top : top + h, left : left + w] = resize(picture, (h, w))
    return square, Letterbox((height, width), w / width, h / height, left, top)


def detect(network: Network, picture: NDArray[np.uint8], threshold: float) -> list[Detection]:
    """Hands in an RGB uint8 picture (H, W, 3), best first, at most 8, by the pack's `detector` network."""
    square, frame = letterbox(picture)
    maps = network.run({"image": to_network([square])})
    return decode({name: np.asarray(values)[0] for name, values in maps.items()}, frame, threshold)


def decode(maps: Mapping[str, NDArray[Any]], frame: Letterbox, threshold: float) -> list[Detection]:
    """Boxes from the maps of one picture.

    Args:
        maps: `score` (h, w) probability that a hand's centre lies in the cell; `center` (2, h, w) x, y inside
            the cell 0..1; `side` (h, w) log(side / 192); `left` (h, w) probability of a left hand.
        threshold: lowest score 0..1. Only cells that are the highest of their 3 x 3 neighbours count.
    """
    score = np.nan_to_num(maps["score"], nan=0.0)
    cell = INPUT_SIZE / score.shape[0]
    peaks = (score >= _highest_neighbour(score)) & (score >= threshold)
    found: list[Detection] = []
    for row, column in sorted(np.argwhere(peaks).tolist(), key=lambda at: -score[at[0], at[1]]):
        offset_x, offset_y = (float(value) for value in maps["center"][:, row, column])
        x, y = frame.to_picture((column + offset_x) * cell, (row + offset_y) * cell)
        if not frame.shows(x, y):
            continue
        log_side = float(np.clip(maps["side"][row, column], np.log(_SMALLEST / INPUT_SIZE), 0.0))
        half = float(np.exp(log_side)) * INPUT_SIZE / max(frame.scale_x, frame.scale_y) / 2
        box = (x - half, y - half, x + half, y + half)
        if not np.isfinite(half) or any(iou(box, other.box) > _OVERLAP for other in found):
            continue
        side: Side = "left" if maps["left"][row, column] > 0.5 else "right"
        found.append(Detection(box, float(score[row, column]), side))
        if len(found) == MAX_HANDS:
            break
    return found


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, 0..1."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def _highest_neighbour(score: NDArray[Any]) -> NDArray[Any]:
    padded = np.pad(score, 1, constant_values=-np.inf)
    return np.asarray(np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).max(axis=(2, 3)))
