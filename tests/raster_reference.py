"""What a camera sees of triangles, pixel by pixel in float64 NumPy: the oracle of the rasteriser."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """Per pixel (H, W): depth of the nearest face, inf where none; of the next one; the face, -1 where
    none; and the distance in pixels to the nearest edge of any face as projected.
    """

    depth: Floats
    second: Floats
    face: NDArray[np.int64]
    edge: Floats

    @property
    def hit(self) -> NDArray[np.bool_]:
        return self.face >= 0


def clipped(corners: Floats, near: float) -> Floats:
    """The part (K, 3) of a triangle (3, 3) with z >= near."""
    kept: list[Floats] = []
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if a[2] >= near:
            kept.append(a)
        if (a[2] >= near) != (b[2] >= near):
            kept.append(a + (near - a[2]) / (b[2] - a[2]) * (b - a))
    return np.array(kept).reshape(-1, 3)


def look(
    vertices: Floats,
    faces: NDArray[np.int64],
    intrinsics: tuple[float, float, float, float],
    size: tuple[int, int],
    near: float = 1e-3,
    extrinsics: Floats | None = None,
) -> Seen:
    """Every face against every pixel: inside its clipped projection, depth where the ray meets its plane."""
    points = np.asarray(vertices, np.float64)
    if extrinsics is not None:
        points = points @ extrinsics[:3, :3].T + extrinsics[:3, 3]
    fx, fy, cx, cy = intrinsics
    ys, xs = np.mgrid[: size[0], : size[1]] + 0.5
    rays = np.stack([(xs - cx) / fx, (ys - cy) / fy, np.ones_like(xs)], axis=-1)
    depth, second, edge = (np.full(size, np.inf) for _ in range(3))
    winner = np.full(size, -1)
    for index, face in enumerate(faces):
        polygon = clipped(points[face], near)
        if len(polygon) < 3:
            continue
        screen = polygon[:, :2] / polygon[:, 2:] * [fx, fy] + [cx, cy]
        signs = []
        for p, q in zip(screen, np.roll(screen, -1, axis=0), strict=True):
            line = q - p
            to_x, to_y = xs - p[0], ys - p[1]
            side = line[0] * to_y - line[1] * to_x
            signs.append(side)
            length = float(np.hypot(*line))
            if length == 0:
                continue
            along = np.clip((to_x * line[0] + to_y * line[1]) / length**2, 0, 1)
            edge = np.minimum(edge, np.hypot(to_x - along * line[0], to_y - along * line[1]))
        inside = (np.array(signs) > 0).all(axis=0) | (np.array(signs) < 0).all(axis=0)
        a, b, c = points[face]
        normal = np.cross(b - a, c - a)
        with np.errstate(all="ignore"):
            z = (normal @ a) / (rays @ normal)
        z = np.where(inside & np.isfinite(z), z, np.inf)
        nearer = z < depth
        second = np.where(nearer, depth, np.minimum(second, z))
        depth = np.where(nearer, z, depth)
        winner = np.where(nearer, index, winner)
    return Seen(depth, second, winner, edge)
