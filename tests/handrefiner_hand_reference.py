"""HandRefiner's rules about the hand as released, in NumPy: camera, joints, depth values, mask.

Written from a description of what the released program does; an oracle like `handrefiner_reference`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FOCAL = 1000.0  # pixels of a crop of NETWORK pixels
NETWORK = 224
NEAREST, RANGE = 255.0, 0.8  # the farthest point of a hand gets 255 * (1 - 0.8) = 51
PAD_SHARE, PADDING = 0.15, 30


def project_released(points: Floats, camera: Floats, side: float) -> Floats:
    """Points (K, 3) in metres to pixels (K, 2) of a square crop of `side` pixels.

    camera: (s, tx, ty) of the mesh network. A pinhole whose focal length grows with the crop, its centre in
    the middle of the crop, without half a pixel.
    """
    scale, tx, ty = (float(value) for value in camera)
    focal = FOCAL * side / NETWORK
    origin = np.array([-tx, -ty, -2.0 * focal / (side * scale + 1e-9)])
    seen = np.asarray(points, np.float64) - origin
    return focal * seen[:, :2] / seen[:, 2:] + side / 2.0


def mpjpe_released(found: Sequence[Floats], expected: Sequence[Floats]) -> float:
    """Mean distance over the joints of all hands, pixels: sum over hands and 21 joints / (21 * hands).

    Both (21, 2) a hand, in pixels of the hand's crop, so of the picture; mirrored for a left hand on both
    sides alike.
    """
    distances = [np.linalg.norm(a - b, axis=1) for a, b in zip(found, expected, strict=True)]
    return float(np.sum(distances) / (21 * len(distances)))


def depth_values_released(z: Floats) -> NDArray[np.uint8]:
    """Depth (H, W) of one hand, NaN where it is not hit, to 255 (nearest) .. 51 (farthest), 0 elsewhere.

    z is the perpendicular distance; each hand has its own range. The values are cut to whole numbers, which
    makes 50 of a farthest point at 50.99.
    """
    hit = np.isfinite(z)
    near, far = z[hit].min(), z[hit].max()
    values = np.zeros(z.shape)
    values[hit] = NEAREST * (1.0 - RANGE * (z[hit] - near) / (far - near))
    return values.astype(np.uint8)


def compose_released(hands: Sequence[NDArray[np.uint8]], landmark_z: Sequence[float]) -> NDArray[np.uint8]:
    """Depth maps (H, W) of the hands in one: by falling z of landmark 9, so that the nearest is on top.

    Only pixels that a hand covers overwrite.
    """
    order = sorted(range(len(hands)), key=lambda k: -landmark_z[k])
    canvas = np.zeros_like(hands[0])
    for k in order:
        np.copyto(canvas, hands[k], where=hands[k] > 0)
    return canvas


def mask_released(
    hands: Sequence[tuple[NDArray[np.uint8], Floats]], padding: int = PADDING
) -> NDArray[np.uint8]:
    """The union of the hands' padded rectangles, (H, W) 0 or 255.

    hands: for each its depth map (H, W) and its landmarks (21, 2) in pixels, which are cut to whole numbers.
    A rectangle holds the depth's and the landmarks' bounding boxes, both ends included, widened on each side
    by 15 % of its extent or `padding`, whichever is more, and clipped to the picture.
    """
    height, width = hands[0][0].shape
    mask = np.zeros((height, width), np.uint8)
    for depth, landmarks in hands:
        rows, columns = np.nonzero(depth)
        points = np.trunc(landmarks).astype(int)
        spans = []
        for seen, told, most in ((rows, points[:, 1], height), (columns, points[:, 0], width)):
            low, high = min(seen.min(), told.min()), max(seen.max(), told.max())
            pad = max(int((high - low + 1) * PAD_SHARE), padding)
            spans.append(slice(max(low - pad, 0), min(high + pad, most - 1) + 1))
        mask[spans[0], spans[1]] = 255
    return mask
