"""Hand: one hand found in a picture, as a metric mesh seen by a pinhole camera."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hoirt.hands.window import Box

Side: TypeAlias = Literal["left", "right"]


class Camera(NamedTuple):
    """Pinhole camera of the whole picture, in pixels: column = fx X / Z + cx, row = fy Y / Z + cy."""

    fx: float
    fy: float
    cx: float
    cy: float


@dataclass(frozen=True, eq=False)
class Hand:
    """One hand.

    Attributes:
        box: square (x0, y0, x1, y1) in pixels of the picture.
        score: the detector's confidence 0..1; 1.0 for boxes given by the user.
        side: "left" or "right".
        keypoints: (21, 2) float32 pixels (x, y): wrist, thumb, index, middle, ring, pinky; four each, tips
            last.
        joints: (21, 3) float32 metres, the same joints in camera space (x right, y down, z away).
        vertices: (V, 3) float32 metres in camera space.
        faces: (F, 3) int32, outward winding for this side.
        camera: intrinsics under which `vertices` project onto the picture. Each hand has its own camera,
            because its mesh was estimated in a crop of its own; distances of two hands do not compare.
        region: (n, n) float32, probability over the square crop of 1.3 times the box that a pixel shows hand,
            malformed parts included; None if the pack's mesh network does not tell.
        malformed: how malformed the hand in the picture is, 0 (well formed) to 1; hands="malformed" takes
            those above 0.5. None if nothing was seen to judge by.
        landmarks: (21, 3) float32, what a landmarker saw of the keypoints: x, y in pixels of the picture, z
            relative to the wrist in pixels, smaller is nearer; None without a landmarker.
    """

    box: Box
    score: float
    side: Side
    keypoints: NDArray[np.float32] = field(repr=False)
    joints: NDArray[np.float32] = field(repr=False)
    vertices: NDArray[np.float32] = field(repr=False)
    faces: NDArray[np.int32] = field(repr=False)
    camera: Camera = field(repr=False)
    region: NDArray[np.float32] | None = field(default=None, repr=False)
    malformed: float | None = None
    landmarks: NDArray[np.float32] | None = field(default=None, repr=False)

    @property
    def apparent_scale(self) -> float:
        """Pixels of the picture per metre at the hand; of two hands the nearer one has the larger scale."""
        return float(self.camera.fx / np.mean(self.vertices[:, 2]))


def project(points: NDArray[np.float32], camera: Camera) -> NDArray[np.float32]:
    """Pixels (N, 2) of camera-space `points` (N, 3) in metres."""
    x, y, z = points.astype(np.float64).T
    return np.stack([camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy], axis=1).astype(np.float32)
