"""An independent rasteriser in float64 NumPy: every pixel centre against every face; slow and plain."""

from __future__ import annotations

from typing import Any

import numpy as np


def rasterize(
    vertices: Any,
    faces: Any,
    *,
    intrinsics: Any,
    size: tuple[int, int],
    extrinsics: Any = None,
    instances: Any = None,
    near: float = 1e-3,
    cull_back_faces: bool = False,
    outputs: tuple[str, ...] = ("depth",),
    threads: int = 0,
) -> dict[str, Any]:
    """The maps of hoirt._core.rasterize, by intersecting the ray of each pixel centre with each face's
    plane.
    """
    points = np.asarray(vertices, np.float64)
    points = points[None] if points.ndim == 2 else points
    cameras = np.asarray(intrinsics, np.float64).reshape(-1, 4)
    world = None if extrinsics is None else np.asarray(extrinsics, np.float64).reshape(-1, 4, 4)
    frames = max(len(points), len(cameras), 1 if world is None else len(world))
    ids = np.zeros(len(faces), np.int32) if instances is None else np.asarray(instances)
    found: dict[str, list[Any]] = {name: [] for name in outputs}
    for n in range(frames):
        cloud = points[n % len(points)]
        if world is not None:
            pose = world[n % len(world)]
            cloud = cloud @ pose[:3, :3].T + pose[:3, 3]
        maps = _frame(cloud, np.asarray(faces), cameras[n % len(cameras)], size, near, cull_back_faces)
        maps["instances"] = np.where(maps["faces"] >= 0, ids[maps["faces"]], -1).astype(np.int32)
        for name in outputs:
            found[name].append(maps[name])
    return {name: np.stack(arrays) for name, arrays in found.items()}


def _frame(
    points: Any, faces: Any, camera: Any, size: tuple[int, int], near: float, cull: bool
) -> dict[str, Any]:
    fx, fy, cx, cy = camera
    height, width = size
    depth = np.full(size, np.inf)
    index = np.full(size, -1, np.int32)
    weights = np.zeros((*size, 3))
    normals = np.zeros((*size, 3))
    for number, face in enumerate(faces):
        a, b, c = points[face]
        normal = np.cross(b - a, c - a)
        volume = normal @ a
        if volume == 0 or (cull and volume > 0) or max(a[2], b[2], c[2]) < near:
            continue
        top, bottom, left, right = 0, height, 0, width
        if min(a[2], b[2], c[2]) > 1e-6:
            xs = [fx * p[0] / p[2] + cx for p in (a, b, c)]
            ys = [fy * p[1] / p[2] + cy for p in (a, b, c)]
            left, right = max(0, int(min(xs)) - 1), min(width, int(max(xs)) + 2)
            top, bottom = max(0, int(min(ys)) - 1), min(height, int(max(ys)) + 2)
            if left >= right or top >= bottom:
                continue
        rows, columns = np.mgrid[top:bottom, left:right] + 0.5
        rays = np.stack([(columns - cx) / fx, (rows - cy) / fy, np.ones_like(rows)], axis=-1)
        # The ray d = z * ray meets the plane where the weights, triple products, are all of the volume's
        # sign.
        w = np.stack([rays @ np.cross(b, c), rays @ np.cross(c, a), rays @ np.cross(a, b)], axis=-1)
        total = w.sum(axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            z = volume / total
            share = w / total[..., None]
        box = (slice(top, bottom), slice(left, right))
        hit = (np.sign(volume) * w >= 0).all(axis=-1) & (z >= near) & (z < depth[box])
        depth[box] = np.where(hit, z, depth[box])
        index[box] = np.where(hit, number, index[box])
        weights[box] = np.where(hit[..., None], share, weights[box])
        towards = -np.sign(volume) * normal / np.linalg.norm(normal)
        normals[box] = np.where(hit[..., None], towards, normals[box])
    return {
        "depth": np.where(np.isfinite(depth), depth, 0).astype(np.float32),
        "faces": index,
        "barycentrics": weights.astype(np.float32),
        "normals": normals.astype(np.float32),
        "silhouette": (index >= 0).astype(np.uint8),
    }
