"""The held-out hands: pictures of seeds that nothing was trained on, and what the refiner makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from hoirt import Hand, Result
from numpy.typing import NDArray

from export.tiny.dataset import BOX_SCALE, CROP, Crop
from export.tiny.scenes import Picture, make_picture

FIRST = 2_000_000
SEEN = 0.3  # overlap of boxes (intersection over union) from which on two boxes mean the same hand

Image = NDArray[np.uint8]
Points = NDArray[np.float32]


class Refine(Protocol):
    """A `hoirt.Refiner`, or what stands for one."""

    def __call__(self, image: Image, *, strength: float, seed: int) -> Result:
        """The picture (H, W, 3) refined."""


@dataclass(frozen=True, eq=False)
class Example:
    """One picture with one hand. Crops are 1.3 times the TRUE hand box; left hands are mirrored in them."""

    seed: int
    picture: Picture
    crop: Crop

    @property
    def mirrored(self) -> bool:
        return self.picture.hands[0].side == "left"

    def cut(self, image: Image) -> Image:
        """The hand's crop of an image (H, W) or (H, W, 3) of this picture's size, 128 x 128."""
        crop = self.crop.of(image)
        return np.ascontiguousarray(crop[:, ::-1] if self.mirrored else crop)

    def points(self, points: Points) -> Points:
        """Pixels (K, 2) of the picture as pixels of the crop."""
        mapped = self.crop.points(points)
        if self.mirrored:
            mapped[:, 0] = CROP - mapped[:, 0]
        return mapped

    @property
    def keypoints(self) -> Points:
        """The true joints (21, 2) in crop pixels."""
        return self.points(self.picture.hands[0].keypoints)

    def same_hand(self, hands: tuple[Hand, ...]) -> Hand | None:
        """The one of `hands` whose box fits the true box best, if it fits at all."""
        true = self.picture.hands[0].box
        best = max(hands, key=lambda hand: overlap(hand.box, true), default=None)
        return best if best is not None and overlap(best.box, true) >= SEEN else None


def example(seed: int) -> Example:
    """The example of a seed."""
    picture = make_picture(seed, hands=1)
    box = picture.hands[0].box
    side = float(box[2] - box[0]) * BOX_SCALE
    centre = (box[:2] + box[2:]) / 2
    return Example(seed, picture, Crop(float(centre[0] - side / 2), float(centre[1] - side / 2), side))


def overlap(a: tuple[float, ...] | Points, b: tuple[float, ...] | Points) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1)."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    shared = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0.0, None).prod()
    union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared
    return float(shared / union)


@dataclass(frozen=True, eq=False)
class Repair:
    """What the refiner made of one picture.

    Attributes:
        image: (H, W, 3) the whole picture. crop: (128, 128, 3).
        depth: (H, W) the condition.
        joints: (21, 2) crop pixels of the conditioning mesh; None if the hand was not found.
        seconds: of the call.
    """

    image: Image
    crop: Image
    depth: Image
    joints: Points | None
    seconds: float


def repair(refine: Refine, of: Example, image: Image, strength: float) -> Repair:
    """Refines `image` (a twin of the example's picture); its seed is the noise's seed too."""
    result = refine(image, strength=strength, seed=of.seed)
    assert isinstance(result.image, np.ndarray) and result.depth is not None
    hand = of.same_hand(result.hands)
    joints = None if hand is None else of.points(hand.keypoints)
    return Repair(result.image, of.cut(result.image), result.depth, joints, result.timings.total)
