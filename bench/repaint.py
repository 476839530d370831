"""The paper's ablation: well-formed hands are masked and painted anew under the depth of their own mesh."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from hoirt import Hand, Result
from hoirt.hands.hand import Camera
from hoirt.hands.model import HandModel
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageFilter
from tqdm import tqdm

from bench.held_out import SEEN, Example, Image, Points, overlap
from export.tiny.dataset import CROP
from export.tiny.scenes import Picture

Depth: TypeAlias = Literal["hand", "general"]
Strength: TypeAlias = float | Literal["adaptive"]
Refine: TypeAlias = Callable[..., Result]  # a hoirt.Refiner, or what stands for one
Detect: TypeAlias = Callable[..., Sequence[Hand]]  # its detect()

FOCAL = 1.9  # of the pictures' camera, in sides of a picture
PAD = 8.0  # pixels of the 128-pixel crop by which the hole is wider than the hand
WALL = 2.5  # metres; an estimator sees a background, the pictures have none with a distance
SOFT = 1.0 / 64.0  # of a picture's side: how far an estimator's edges are spread (standard deviation)


def true_hand(picture: Picture) -> Hand:
    """The picture's hand as hoirt would find it, but with the mesh that it was drawn from."""
    truth = picture.hands[0]
    posed = HandModel.load("right").posed(truth.rotations[None], truth.shape[None])
    left = truth.side == "left"
    flip = np.array([-1.0 if left else 1.0, 1.0, 1.0], np.float32)
    move = (truth.joints - posed.keypoints[0] * flip).mean(axis=0)
    faces = HandModel.load("right").faces
    height, width = picture.depth.shape
    x0, y0, x1, y1 = truth.box.tolist()
    return Hand(
        box=(x0, y0, x1, y1),
        score=1.0,
        side="left" if left else "right",
        keypoints=truth.keypoints,
        joints=truth.joints,
        vertices=posed.vertices[0] * flip + move,
        faces=np.ascontiguousarray(faces[:, ::-1]) if left else faces,
        camera=Camera(FOCAL * height, FOCAL * height, width / 2, height / 2),
    )


def hole(of: Example) -> NDArray[np.bool_]:
    """The rectangle (H, W) around the true hand, True = painted anew; a silhouette would tell the pose."""
    shown = of.picture.region | (of.picture.depth > 0)
    pad = PAD * of.crop.side / CROP
    mask = np.zeros(shown.shape, np.bool_)
    spans = []
    for axis in (1, 0):
        seen = np.flatnonzero(shown.any(axis=axis))
        low, high = max(round(seen[0] - pad), 0), round(seen[-1] + 1 + pad)
        spans.append(slice(low, high))
    mask[spans[0], spans[1]] = True
    return mask


def general_depth(picture: Picture) -> Image:
    """Depth (H, W) of the whole picture as an estimator for any picture gives it: 255 nearest, 0 farthest.

    From the true distances of hand and forearm before a wall: inverse distance over the picture's whole
    range, so that one hand takes only a part of it, with soft edges, and the forearm is there too.
    """
    inverse = 1.0 / np.where(picture.distance > 0, picture.distance, np.float32(WALL))
    share = (inverse - inverse.min()) / (inverse.max() - inverse.min())
    soft = Pillow.fromarray(np.round(255.0 * share).astype(np.uint8))
    return np.asarray(soft.filter(ImageFilter.GaussianBlur(SOFT * picture.depth.shape[0])))


@dataclass(frozen=True)
class Configuration:
    """A row of the table.

    Attributes:
        name: as it is printed. depth: what conditions. strength: of the control. negative: the prompt.
        paper: the paper's Frechet distance and joint error, where it has such a row.
    """

    name: str
    depth: Depth
    strength: Strength
    negative: str
    paper: tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class Repaint:
    """A hand that was painted anew.

    Attributes:
        image: (H, W, 3) the picture. crop: (128, 128, 3) the hand, mirrored if left.
        joints: (21, 2) crop pixels of the conditioning mesh, which is the true one.
        confidence: the detector's score of that hand, 0 if it is not found.
        strength: used, or chosen. runs: of the sampler that the choice takes in order, 1 without one.
        seconds: of the call.
    """

    image: Image
    crop: Image
    joints: Points
    confidence: float
    strength: float
    runs: int
    seconds: float


def confidence(hands: Sequence[Hand], box: NDArray[np.float32]) -> float:
    """The best score among the detected hands whose box fits `box`, 0 if none does."""
    return max((hand.score for hand in hands if overlap(hand.box, box) >= SEEN), default=0.0)


def repaint(refine: Refine, detect: Detect, of: Example, how: Configuration) -> Repaint:
    """Paints the hand of a well-formed picture anew; prompt and noise are the picture's in every row."""
    hand = true_hand(of.picture)
    given: dict[str, Any] = {} if how.depth == "hand" else {"depth": general_depth(of.picture)}
    result = refine(
        of.picture.image,
        hands=[hand],
        mask=hole(of),
        strength=how.strength,
        prompt=of.picture.hands[0].caption,
        negative_prompt=how.negative,
        seed=of.seed,
        **given,
    )
    assert isinstance(result.image, np.ndarray)
    found = detect(result.image, threshold=0.0)
    box = of.picture.hands[0].box
    return Repaint(
        result.image,
        of.cut(result.image),
        of.keypoints,
        confidence(found, box),
        result.strength,
        max(len(result.trials), 1),
        result.timings.total,
    )


def repaint_all(
    refine: Refine, detect: Detect, examples: Sequence[Example], rows: Sequence[Configuration]
) -> dict[str, list[Repaint]]:
    """Every example under every row, by the row's name; hand by hand, as load then falls on all alike."""
    made: dict[str, list[Repaint]] = {how.name: [] for how in rows}
    for one in tqdm(examples, desc="repainted", unit="hand"):
        for how in rows:
            made[how.name].append(repaint(refine, detect, one, how))
    return made
