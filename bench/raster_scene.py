"""What the rasteriser is measured on: a hand turning before a bumpy ring, as in a clip of hand and object."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hoirt.hands.model import HandModel
from numpy.typing import NDArray

FRAMES = 49
SIZE = (480, 720)
INTRINSICS = (600.0, 600.0, 360.0, 240.0)


@dataclass(frozen=True)
class Clip:
    """Vertices float32 (N, V, 3), metres in camera space; faces int32 (F, 3), the hand's first; their
    instances int32 (F,), 0 hand and 1 object; the hand's keypoints float64 (N, 21, 2), pixels.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    instances: NDArray[np.int32]
    keypoints: NDArray[np.float64]
    hand_vertices: int

    @property
    def hand_faces(self) -> int:
        return int((self.instances == 0).sum())


def hand_mesh(faces: int) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """hoirt's hand with about as many faces as asked for (MANO has 1538), about its centre, metres."""
    import fast_simplification

    model = HandModel.load("right")
    vertices, triangles = fast_simplification.simplify(
        np.asarray(model.template, np.float32), model.faces, target_count=faces
    )
    return np.asarray(vertices - vertices.mean(axis=0), np.float64), np.asarray(triangles, np.int32)


def ring(around: int, across: int) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """A closed ring with bumps, 18 cm wide, of 2 * around * across faces."""
    u, v = np.meshgrid(np.arange(around), np.arange(across), indexing="ij")
    a, b = 2 * np.pi * u / around, 2 * np.pi * v / across
    radius = 0.03 * (1 + 0.1 * np.sin(7 * a) * np.cos(5 * b))
    reach = 0.06 + radius * np.cos(b)
    points = np.stack([reach * np.cos(a), reach * np.sin(a), radius * np.sin(b)], axis=-1)
    here, right = u * across + v, (u + 1) % around * across + v
    below, beyond = u * across + (v + 1) % across, (u + 1) % around * across + (v + 1) % across
    faces = np.concatenate(
        [np.stack([here, right, beyond], axis=-1), np.stack([here, beyond, below], axis=-1)]
    )
    return points.reshape(-1, 3), faces.reshape(-1, 3).astype(np.int32)


def clip(frames: int = FRAMES, object_faces: int = 47_124, hand_faces: int = 1538) -> Clip:
    hand, hand_triangles = hand_mesh(hand_faces)
    around = max(3, round(float(np.sqrt(object_faces / 2))))
    thing, thing_triangles = ring(around, max(3, round(object_faces / 2 / around)))
    tilt = np.array([[1, 0, 0], [0, 0.6, -0.8], [0, 0.8, 0.6]])
    moments = []
    for angle in 2 * np.pi * np.arange(frames) / max(frames, 1):
        c, s = np.cos(angle), np.sin(angle)
        turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        moments.append(
            np.concatenate([hand @ turn.T + [-0.03, 0, 0.5], thing @ (turn @ tilt).T + [0.04, 0, 0.52]])
        )
    vertices = np.array(moments)
    # Which 21 points are drawn does not matter for the time; these are spread over the hand.
    points = vertices[:, np.linspace(0, len(hand) - 1, 21).astype(int)]
    keypoints = points[..., :2] / points[..., 2:] * INTRINSICS[:2] + INTRINSICS[2:]
    return Clip(
        vertices.astype(np.float32),
        np.concatenate([hand_triangles, thing_triangles + len(hand)]).astype(np.int32),
        np.repeat(np.array([0, 1], np.int32), [len(hand_triangles), len(thing_triangles)]),
        keypoints,
        len(hand),
    )
