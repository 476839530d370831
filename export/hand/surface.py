"""The hand's surface: a smooth union of round cones, meshed by marching cubes and simplified."""

import fast_simplification
import numpy as np
import trimesh
from numpy.typing import NDArray
from skimage import measure

from .anatomy import Array, fingers

VOXEL = 0.0016  # metres


def _round_cone(points: Array, a: Array, b: Array, radius_a: float, radius_b: float) -> Array:
    """Distance to the segment a-b whose radius goes linearly from radius_a to radius_b."""
    axis = b - a
    t = np.clip((points - a) @ axis / (axis @ axis), 0.0, 1.0)
    nearest = a + t[:, None] * axis
    return np.linalg.norm(points - nearest, axis=1) - (radius_a + t * (radius_b - radius_a))


def _smooth_union(a: Array, b: Array, width: float) -> Array:
    """Quadratic smooth minimum: blends the surfaces where the two distances differ by less than `width`."""
    h = np.maximum(width - np.abs(a - b), 0.0) / width
    return np.minimum(a, b) - h * h * width / 4.0


def _finger_distance(points: Array, chain: Array, radii: Array) -> Array:
    distance = np.full(len(points), np.inf)
    for k in range(3):
        # The last cone ends a radius before the tip, so that the chain's last point lies on the skin.
        end = (
            chain[k + 1]
            if k < 2
            else chain[3] - (chain[3] - chain[2]) / np.linalg.norm(chain[3] - chain[2]) * radii[3]
        )
        cone = _round_cone(points, chain[k], end, radii[k], radii[k + 1])
        distance = cone if k == 0 else _smooth_union(distance, cone, 0.003)
    return distance


def _palm_distance(points: Array) -> Array:
    digits = fingers()
    flat = points * np.array([1.0, 1.15, 1.0])  # the palm is a little thinner than round
    root = np.array([-0.006, 0.0, 0.0])
    parts = [
        _round_cone(
            flat,
            root + np.array([0.0, 0.0, side]),
            digits[name].points[0] + np.array([0.002, -0.001, 0.0]),
            0.0175,
            radius,
        )
        for name, side, radius in (
            ("index", 0.012, 0.0128),
            ("middle", 0.004, 0.0132),
            ("ring", -0.004, 0.0128),
            ("pinky", -0.011, 0.0118),
        )
    ]
    thenar = _round_cone(
        flat, np.array([-0.016, -0.009, 0.014]), np.array([-0.044, -0.015, 0.034]), 0.0155, 0.0140
    )
    hypothenar = _round_cone(
        flat, np.array([-0.016, -0.008, -0.014]), np.array([-0.058, -0.009, -0.030]), 0.0150, 0.0125
    )
    web = _round_cone(
        flat, np.array([-0.060, -0.004, 0.026]), np.array([-0.050, -0.010, 0.038]), 0.0085, 0.0075
    )
    wrist = _round_cone(
        points * np.array([1.0, 1.3, 1.0]),
        np.array([0.030, 0.0, 0.0]),
        np.array([0.0, 0.0, 0.0]),
        0.0265,
        0.0265,
    )
    palm = parts[0]
    for part in (*parts[1:], thenar, hypothenar, web, wrist):
        palm = _smooth_union(palm, part, 0.014)
    # Flat cut through the forearm, where the mesh is closed.
    return np.maximum(palm, points[:, 0] - 0.022)


def distance(points: Array) -> Array:
    """Approximate signed distance (N,) in metres of points (N, 3) to the hand's skin; negative inside."""
    hand = _palm_distance(points)
    for name, digit in fingers().items():
        blend = 0.011 if name == "thumb" else 0.008
        hand = _smooth_union(hand, _finger_distance(points, digit.points, digit.radii), blend)
    return hand


def _onto_surface(points: Array) -> Array:
    """Moves points along the distance's gradient onto the skin; undoes what simplification shifted."""
    step = 5e-4
    for _ in range(3):
        gradient = np.stack(
            [distance(points + step * axis) - distance(points - step * axis) for axis in np.eye(3)], axis=1
        ) / (2 * step)
        length = np.maximum((gradient**2).sum(axis=1, keepdims=True), 0.25)
        points = points - np.clip(distance(points)[:, None] / length, -VOXEL, VOXEL) * gradient
    return points


def mesh(face_count: int = 4000) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """A closed mesh of the hand: vertices (V, 3) metres and outward faces (F, 3)."""
    low, high = np.array([-0.215, -0.045, -0.075]), np.array([0.030, 0.035, 0.105])
    grid = [np.arange(a, b, VOXEL) for a, b in zip(low, high, strict=True)]
    points = np.stack(np.meshgrid(*grid, indexing="ij"), axis=-1).reshape(-1, 3)
    values = np.concatenate([distance(chunk) for chunk in np.array_split(points, 32)])
    volume = values.reshape([len(axis) for axis in grid])
    vertices, faces, _, _ = measure.marching_cubes(volume, 0.0, spacing=(VOXEL,) * 3)
    vertices, faces = fast_simplification.simplify(
        (vertices + low).astype(np.float32), faces.astype(np.int32), target_count=face_count
    )
    surface = trimesh.Trimesh(_onto_surface(vertices.astype(np.float64)), faces, process=True)
    if surface.volume < 0:
        surface.invert()
    if not surface.is_watertight or surface.body_count != 1:
        raise RuntimeError("the hand's mesh is not one closed surface; check the anatomy and the voxel size")
    return surface.vertices.astype(np.float32), surface.faces.astype(np.int32)
