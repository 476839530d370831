"""The released HandRefiner's own rules for depth, mask and noise: what faithful=True changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import InputError
from hoirt.hands.hand import Hand
from hoirt.hands.mask import Mask
from hoirt.hands.released import MIDDLE_KNUCKLE, released_mask, released_order
from hoirt.hands.render import metric_depth
from hoirt.hands.window import Window
from hoirt.pipeline.regions import Region
from hoirt.render.encode import hand_depth

if TYPE_CHECKING:
    from hoirt.schedules import StepTable

Floats = NDArray[np.float32]

PADDING = 30  # pixels that the mask's rectangles reach beyond the hand, at least (--padding_bbox)
_MASKED_STREAM, _PICTURE_STREAM = 0xFFFFFFFC, 0xFFFFFFFD  # of Philox, for the two samples of the posterior


def plan(
    size: tuple[int, int],
    multiple: int,
    hands: list[Hand],
    depth: NDArray[np.uint8] | None,
    mask: Mask | None,
) -> tuple[list[Region], NDArray[np.uint8]]:
    """The whole picture as the one region, under the released depth and mask, and that depth (H, W).

    Depth: every hand 255 to 51 of its own range, cut to a byte, nearer hands over farther ones. Mask: the
    union of rectangles around each hand's depth and joints, padded. A given depth or mask replaces the one
    made here. Raises InputError for a picture that the networks cannot take as it is: the release resizes
    nothing.
    """
    height, width = size
    if height % multiple or width % multiple:
        raise InputError(
            f"faithful=True works on the picture as it is, so its sides must be multiples of {multiple} (the "
            f"release takes 512 x 512 only); this one is {width} x {height}. Resize it, or leave out faithful"
        )
    order = _far_to_near(hands)
    drawn = [metric_depth(hands[k], Window.whole(size), size) for k in order]
    own = hand_depth(np.stack(drawn)[None])[0] if drawn else np.zeros(size, np.uint8)
    shown = own if depth is None else depth
    if mask is None and hands:
        points = [_points(hands[k]) / np.array([width, height], np.float32) for k in order]
        mask = released_mask(drawn, points, size, padding=PADDING) > 0
    elif mask is None:
        mask = shown > 0
    if not mask.any() or not shown.any():
        return [], shown
    return [Region(0, order, Window.whole(size), shown, mask, None, 0.0, whole=True)], shown


def _far_to_near(hands: list[Hand]) -> tuple[int, ...]:
    """By the z of the landmarks; without a landmarker, by how large the hands appear."""
    seen = [hand.landmarks[MIDDLE_KNUCKLE, 2] for hand in hands if hand.landmarks is not None]
    if len(seen) == len(hands):
        return tuple(released_order(seen))
    return tuple(sorted(range(len(hands)), key=lambda k: hands[k].apparent_scale))


def _points(hand: Hand) -> NDArray[np.float32]:
    return hand.keypoints if hand.landmarks is None else hand.landmarks[:, :2]


def split_noise(
    noise: Floats | None, table: StepTable, seed: int, shape: tuple[int, ...]
) -> tuple[tuple[Floats, Floats], Floats | None]:
    """Normals of the posterior of (masked picture, picture), and those of the loop.

    noise: (2 + K, N, 4, h, w) in the release's order: the masked picture's posterior, the picture's, x_T,
    then the known region's at every step. (The normals that the release draws for eta = 0 multiply nothing
    and are left out.) None draws the posterior's from Philox with the seed, streams 0xFFFFFFFC and
    0xFFFFFFFD, and leaves the loop to its seeds.
    """
    from hoirt import _core

    if noise is None:
        masked, picture = (_core.philox_normal(seed, s, shape) for s in (_MASKED_STREAM, _PICTURE_STREAM))
        return (masked, picture), None
    wanted = (2 + table.noise_streams, *shape)
    if noise.shape != wanted:
        raise InputError(
            f"noise has shape {noise.shape}; with faithful=True this call needs {wanted}: posterior of "
            "the masked picture, posterior of the picture, initial state, known region at every step"
        )
    return (noise[0], noise[1]), noise[2:]


def frame(colours: Floats) -> NDArray[np.uint8]:
    """The decoded picture (H, W, 3) as the release writes it: cut to bytes, nothing pasted."""
    return colours.astype(np.uint8)
