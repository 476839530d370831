"""Malformed hands: an extra, missing, fused, bent or thickened finger, made from a well-formed pose."""

from dataclasses import dataclass

import numpy as np
from hoirt.hands.model import HandModel, rotation_matrices
from numpy.typing import NDArray

from ...hand.anatomy import fingers
from .poses import FINGERS, Pose

KINDS = ("extra", "missing", "fused", "bent", "thick")
_LONG = ("index", "middle", "ring", "pinky")


@dataclass(frozen=True)
class Surface:
    """A posed surface: vertices (V, 3) metres, faces (F, 3) and every vertex's resting position (V, 3)."""

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    rest: NDArray[np.float32]


def pose_surface(
    pose: Pose, rest: NDArray[np.float32] | None = None, joints: NDArray[np.float32] | None = None
) -> Surface:
    """The well-formed surface of a pose; `rest` (V, 3) and `joints` (16, 3) replace the shaped hand's."""
    from hoirt import _core

    model = HandModel.load("right")
    shaped = model.shaped(pose.shape)[0]
    rest = shaped if rest is None else rest
    joints = model.joint_regressor @ shaped if joints is None else joints
    vertices, _ = _core.skin(rest[None], joints[None], pose.rotations[None], model.weights, model.parents)
    return Surface(vertices[0], model.faces, model.template)


def _join(a: Surface, b: Surface) -> Surface:
    return Surface(
        np.concatenate([a.vertices, b.vertices]),
        np.concatenate([a.faces, b.faces + len(a.vertices)]),
        np.concatenate([a.rest, b.rest]),
    )


def _held(model: HandModel, name: str) -> NDArray[np.float32]:
    """(V,) how much of each vertex belongs to a digit."""
    first = 1 + 3 * FINGERS.index(name)
    return model.weights[:, first : first + 3].sum(axis=1)


def _turned(pose: Pose, name: str, joint: int, axis: NDArray[np.float32], degrees: float) -> Pose:
    rotations = pose.rotations.copy()
    index = 1 + 3 * FINGERS.index(name) + joint
    rotations[index] = rotation_matrices(axis * np.radians(degrees)) @ rotations[index]
    return Pose(rotations, pose.shape, pose.gesture)


def _abducted(pose: Pose, name: str, degrees: float, joint: int = 0) -> Pose:
    index = 1 + 3 * FINGERS.index(name) + joint
    return _turned(pose, name, joint, HandModel.load("right").abduction_axes[index], degrees)


def _only_finger(surface: Surface, name: str) -> Surface:
    model = HandModel.load("right")
    own = _held(model, name) > 0.25
    return Surface(surface.vertices, model.faces[own[model.faces].all(axis=1)], surface.rest)


def _extra(pose: Pose, surface: Surface, rng: np.random.Generator) -> Surface:
    name = str(rng.choice(_LONG))
    sign = float(rng.choice([-1.0, 1.0]))
    twin = pose_surface(_abducted(pose, name, sign * rng.uniform(13.0, 26.0)))
    # Beside its origin: shifted across the palm, in the camera's axes.
    across = pose.rotations[0] @ np.array([0.0, 0.0, sign * rng.uniform(0.006, 0.012)])
    finger = _only_finger(twin, name)
    return _join(surface, Surface((finger.vertices + across).astype(np.float32), finger.faces, finger.rest))


def _missing(
    pose: Pose, rest: NDArray[np.float32], joints: NDArray[np.float32], rng: np.random.Generator
) -> None:
    name = str(rng.choice((*_LONG, *_LONG, "thumb")))
    first = 1 + 3 * FINGERS.index(name)
    root, keep = joints[first].copy(), rng.uniform(0.05, 0.45)
    held = _held(HandModel.load("right"), name)[:, None]
    rest += held * (root + (rest - root) * keep - rest)
    joints[first : first + 3] = root + (joints[first : first + 3] - root) * keep


def _thick(rest: NDArray[np.float32], joints: NDArray[np.float32], rng: np.random.Generator) -> None:
    name = str(rng.choice(FINGERS))
    held = _held(HandModel.load("right"), name)
    chain = fingers()[name].points
    axis = (chain[3] - chain[0]) / np.linalg.norm(chain[3] - chain[0])
    offset = rest - joints[1 + 3 * FINGERS.index(name)]
    radial = offset - (offset @ axis)[:, None] * axis
    rest += (held * rng.uniform(0.7, 1.3))[:, None].astype(np.float32) * radial.astype(np.float32)


def _bent(pose: Pose, rng: np.random.Generator) -> Pose:
    name, joint = str(rng.choice(_LONG)), int(rng.choice([1, 1, 2]))
    index = 1 + 3 * FINGERS.index(name) + joint
    model = HandModel.load("right")
    if rng.random() < 0.6:
        return _turned(
            pose,
            name,
            joint,
            model.abduction_axes[index],
            float(rng.choice([-1, 1])) * rng.uniform(45.0, 80.0),
        )
    return _turned(pose, name, joint, model.flexion_axes[index], -rng.uniform(60.0, 100.0))


def _fused(pose: Pose, surface: Surface, rng: np.random.Generator) -> Surface:
    """Fills the gap between two neighbours with copies of the first at angles in between."""
    k = int(rng.integers(0, 3))
    first, second = _LONG[k], _LONG[k + 1]
    a, b = (1 + 3 * FINGERS.index(name) for name in (first, second))
    rotations = pose.rotations.copy()
    rotations[b : b + 3] = rotations[a : a + 3]
    pose = Pose(rotations, pose.shape, pose.gesture)
    surface = pose_surface(pose)
    near, far = (
        surface.vertices[_held(HandModel.load("right"), first) > 0.9],
        surface.vertices[_held(HandModel.load("right"), second) > 0.9],
    )
    gap = far.mean(axis=0) - near.mean(axis=0)
    finger = _only_finger(surface, first)
    for share in (0.33, 0.66):
        moved = (finger.vertices + gap * share).astype(np.float32)
        surface = _join(surface, Surface(moved, finger.faces, finger.rest))
    return surface


def malform(pose: Pose, rng: np.random.Generator) -> tuple[Surface, tuple[str, ...]]:
    """A malformed surface in the place of the well-formed one, and the kinds of its one to three defects."""
    count = int(rng.choice([1, 2, 3], p=[0.45, 0.40, 0.15]))
    kinds = tuple(str(kind) for kind in rng.choice(KINDS, size=count, replace=False))
    model = HandModel.load("right")
    rest = model.shaped(pose.shape)[0].copy()
    joints = (model.joint_regressor @ rest).astype(np.float32)
    if "missing" in kinds:
        _missing(pose, rest, joints, rng)
    if "thick" in kinds:
        _thick(rest, joints, rng)
    if "bent" in kinds:
        pose = _bent(pose, rng)
    surface = pose_surface(pose, rest, joints)
    if "fused" in kinds:
        fused = _fused(pose, surface, rng)
        surface = (
            _join(Surface(surface.vertices, surface.faces[:0], surface.rest), fused)
            if count == 1
            else _join(surface, fused)
        )
    if "extra" in kinds:
        surface = _extra(pose, surface, rng)
    return surface, kinds
