"""Hand detection by a pack's network: letterbox, decode its maps, suppress double finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hoirt.hands.hand import Side
from hoirt.hands.window import Box, Window, to_network
from hoirt.imaging import resize

if TYPE_CHECKING:
    from hoirt._core import Network

INPUT_SIZE = 192
MAX_HANDS = 64  # in one picture; bounds the time a picture can take
_OVERLAP = 0.4  # intersection over union above which two boxes are one hand
_SMALLEST = 4.0  # pixels of the letterboxed picture
_AROUND = 2.0  # side of the square that is looked at for a told box, in sides of the box


@dataclass(frozen=True)
class Detection:
    """One hand seen, before there is a mesh.

    Attributes:
        box: square (x0, y0, x1, y1) in pixels of the picture.
        score: the confidence 0..1; 1.0 for hands told by the caller.
        side: "left" or "right".
        left: probability 0..1 that it is a left hand; None where `side` is certain.
        keypoints: (21, 2) float32 pixels of the picture, in the order of `Hand.keypoints`, if they were seen.
        z: (21,) float32, depth of the keypoints relative to the wrist in pixels, smaller is nearer; mediapipe
            only.
    """

    box: Box
    score: float
    side: Side
    left: float | None = None
    keypoints: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    z: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)


class Detector(Protocol):
    """What finds hands: a pack's network or mediapipe's."""

    input_size: int  # side in pixels of the square that the whole picture is shrunk to
    threshold: float  # lowest confidence, where the caller names none

    def __call__(self, picture: NDArray[np.uint8], threshold: float) -> list[Detection]:
        """Hands of an RGB uint8 picture (H, W, 3), best first, at most MAX_HANDS."""

    def look_at(self, picture: NDArray[np.uint8], box: Box) -> Detection:
        """What can be seen of the hand that the caller says is in `box`; keeps the box."""


class MapDetector:
    """The pack's `detector` network. Safe to share between threads."""

    input_size = INPUT_SIZE

    def __init__(self, network: Network, threshold: float) -> None:
        self._network = network
        self.threshold = threshold

    def __call__(self, picture: NDArray[np.uint8], threshold: float) -> list[Detection]:
        """As in Detector."""
        square, frame = letterbox(picture)
        return decode(self._maps(square), frame, threshold)

    def look_at(self, picture: NDArray[np.uint8], box: Box) -> Detection:
        """As in Detector: the side is what the network sees at its best cell in the box and around it."""
        maps = self._maps(Window.around(box, _AROUND).look(picture, (INPUT_SIZE, INPUT_SIZE)))
        best = int(np.argmax(np.nan_to_num(maps["score"])))
        left = _probability(np.ravel(maps["left"])[best])
        return Detection(box, 1.0, side_of(left), left)

    def _maps(self, square: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        maps = self._network.run({"image": to_network([square])})
        return {name: np.asarray(values)[0] for name, values in maps.items()}


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
        half = float(np.exp(log_side)) * max(frame.size) / 2  # the longer side fills the square
        box = (x - half, y - half, x + half, y + half)
        if not np.isfinite(half) or any(iou(box, other.box) > _OVERLAP for other in found):
            continue
        left = _probability(maps["left"][row, column])
        found.append(Detection(box, min(float(score[row, column]), 1.0), side_of(left), left))
        if len(found) == MAX_HANDS:
            break
    return found


def side_of(left: float) -> Side:
    """The likelier side for the probability of a left hand."""
    return "left" if left > 0.5 else "right"


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, 0..1."""
    common = intersection(a, b)
    return common / (area(a) + area(b) - common) if common else 0.0


def intersection(a: Box, b: Box) -> float:
    """Area that two boxes share, in pixels."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def area(box: Box) -> float:
    """Of a box, in pixels."""
    return (box[2] - box[0]) * (box[3] - box[1])


def _probability(value: Any) -> float:
    """NaN tells nothing, so it is one half."""
    return float(np.clip(np.nan_to_num(value, nan=0.5), 0.0, 1.0))


def _highest_neighbour(score: NDArray[Any]) -> NDArray[Any]:
    padded = np.pad(score, 1, constant_values=-np.inf)
    return np.asarray(np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).max(axis=(2, 3)))
