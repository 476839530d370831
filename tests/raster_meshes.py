"""Meshes that are hard to rasterise, from a random generator, for pictures of 48 x 64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rng = np.random.Generator


def boxes(rng: Rng, low: list[float], high: list[float], faces: int) -> Floats:
    return rng.uniform(low, high, (3 * faces, 3))


def slivers(rng: Rng) -> Floats:
    """Triangles as thin as a hundredth of a pixel, some of them nearly edge-on."""
    a, b = boxes(rng, [-0.4, -0.3, 0.5], [0.4, 0.3, 2.0], 4).reshape(2, 6, 3)
    c = a + rng.uniform(0, 1, (6, 1)) * (b - a) + rng.normal(0, 10 ** rng.uniform(-5, -2, (6, 1)), (6, 3))
    return np.stack([a, b, c], axis=1).reshape(-1, 3)


def coplanar(rng: Rng) -> Floats:
    """Overlapping triangles in one plane: any may win, the depth is one."""
    flat = boxes(rng, [-0.4, -0.3, 0], [0.4, 0.3, 0], 5)
    flat[:, 2] = 1.0 + rng.uniform(-0.5, 0.5) * flat[:, 0] + rng.uniform(-0.5, 0.5) * flat[:, 1]
    return flat


def huge(rng: Rng) -> Floats:
    """Corners up to 1e6 pixels off the picture, many beyond the guard band."""
    points = boxes(rng, [-1, -1, 0.5], [1, 1, 2.0], 5)
    points[:, :2] *= 10 ** rng.uniform(0, 4, (15, 1))
    return points


KINDS: dict[str, Callable[[Rng], Floats]] = {
    "ordinary": lambda rng: boxes(rng, [-0.4, -0.3, 0.5], [0.4, 0.3, 2.0], 6),
    "small": lambda rng: (
        rng.uniform([-0.3, -0.2, 0.9], [0.3, 0.2, 1.1], (200, 1, 3)) + rng.normal(0, 0.01, (200, 3, 3))
    ).reshape(-1, 3),
    "slivers": slivers,
    "coplanar": coplanar,
    "behind": lambda rng: boxes(rng, [-0.4, -0.3, -2.0], [0.4, 0.3, -0.01], 4),
    "crossing the near plane": lambda rng: boxes(rng, [-0.4, -0.3, -1.0], [0.4, 0.3, 1.0], 5),
    "huge": huge,
    "huge and crossing": lambda rng: huge(rng) - [0, 0, 1.0],
}


def even_grid(cells: int) -> Floats:
    """The corners (cells + 1, cells + 1, 2) of the square -1..1 in equal cells."""
    line = np.linspace(-1, 1, cells + 1)
    return np.stack(np.meshgrid(line, line), axis=-1)


def tessellated(rng: Rng, cells: int) -> tuple[Floats, NDArray[np.int64]]:
    """The square -1..1 in a jittered grid, every cell cut along a random diagonal and wound at random.

    In one of about a thousand squares a corner moves over a diagonal, and a face is turned over.
    """
    grid = even_grid(cells)
    grid[1:-1, 1:-1] += rng.uniform(-0.6, 0.6, (cells - 1, cells - 1, 2)) / cells
    faces = []
    for i in range(cells):
        for j in range(cells):
            a = (cells + 1) * i + j
            b, c, d = a + 1, a + cells + 2, a + cells + 1
            two = [[a, b, c], [a, c, d]] if rng.random() < 0.5 else [[a, b, d], [b, c, d]]
            faces += [face if rng.random() < 0.5 else face[::-1] for face in two]
    return grid.reshape(-1, 2), np.array(faces)
