"""Encoders and hand drawing on a CUDA device equal the CPU's, bit for bit; skipped where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from device_tools import back, device
from hoirt import _core
from hoirt.render.palettes import ade20k, inferno, openpose_hand, pam_hand

SHAPE = (3, 61, 83)


def there(array: np.ndarray) -> Any:
    return device("cuda:0").upload(array)


def empty(*shape: int) -> Any:
    return there(np.full(shape, 99, np.uint8))


def workspace(*shape: int, dtype: str = "float32") -> Any:
    return device("cuda:0").empty(shape, dtype)


def stream() -> int:
    """On which all of these come and go."""
    return int(device("cuda:0").stream())


def buffers() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    depth = np.where(rng.random(SHAPE) < 0.4, 0, rng.uniform(0.2, 3.0, SHAPE)).astype(np.float32)
    return depth, np.where(depth > 0, rng.integers(0, 5, SHAPE), -1).astype(np.int32)


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("one_by_one", [False, True])
def test_hand_depth(cuda: Any, nearest: bool, one_by_one: bool) -> None:
    depth, ids = buffers()
    layers = depth[:, None] * (ids[:, None] == np.arange(5)[:, None, None])
    given = layers.astype(np.float32) if one_by_one else depth
    z, hands, out, ranges = there(given), there(ids), empty(*SHAPE), workspace(3, 5, 2)
    cuda.hand_depth(
        z.address,
        0 if one_by_one else hands.address,
        ranges.address,
        out.address,
        frames=3,
        hands=5,
        pixels=SHAPE[1] * SHAPE[2],
        farthest=51,
        nearest_integer=nearest,
        stream=stream(),
    )
    wanted = _core.hand_depth(
        given, None if one_by_one else ids, farthest=51, nearest_integer=nearest, threads=1
    )
    np.testing.assert_array_equal(back(out), wanted)


@pytest.mark.parametrize("disparity", [False, True])
def test_coloured_depth(cuda: Any, disparity: bool) -> None:
    depth, _ = buffers()
    z, table, out, range_ = there(depth), there(inferno()), empty(*SHAPE, 3), workspace(2)
    options = {"low": 38 / 255, "high": 213 / 255, "disparity": disparity}
    addresses = [t.address for t in (z, table, range_, out)]
    cuda.coloured_depth(*addresses, pixels=depth.size, stream=stream(), **options)
    np.testing.assert_array_equal(back(out), _core.coloured_depth(depth, inferno(), threads=1, **options))


def test_coloured_instances_and_normals(cuda: Any) -> None:
    _, ids = buffers()
    given, table, out = there(ids), there(ade20k()[:6]), empty(*SHAPE, 3)
    cuda.coloured_instances(
        given.address, table.address, out.address, ids=5, pixels=ids.size, stream=stream()
    )
    np.testing.assert_array_equal(back(out), _core.coloured_instances(ids, ade20k()[:6], threads=1))
    normals = np.random.default_rng(1).uniform(-1, 1, (*SHAPE, 3)).astype(np.float32)
    vectors = there(normals)
    for flip in (False, True):
        cuda.coloured_normals(vectors.address, out.address, pixels=ids.size, flip=flip, stream=stream())
        np.testing.assert_array_equal(back(out), _core.coloured_normals(normals, flip=flip, threads=1))


@pytest.mark.parametrize("lines", [False, True])
def test_draw_hands(cuda: Any, lines: bool) -> None:
    rng = np.random.default_rng(2)
    joints = rng.normal(0, 40, (20, 21, 2)) + rng.uniform(0, 90, (20, 1, 2))
    depth, below = rng.random((20, 21)), rng.integers(0, 256, (20, 90, 110, 3)).astype(np.uint8)
    joint_colours, limb_colours = openpose_hand() if lines else pam_hand()
    options: dict[str, Any] = {
        "lines": lines,
        "joint_radius": 4 if lines else 3,
        "half_widths": (6, 3),
        "joint_colours": joint_colours,
        "limb_colours": limb_colours,
    }
    pictures, points, z = there(below), there(joints), there(depth)
    order = workspace(20, 90, 110, dtype="int32")
    addresses = [t.address for t in (pictures, order, points, z)]
    cuda.draw_hands(*addresses, frames=20, size=(90, 110), stream=stream(), **options)
    wanted = _core.draw_hands(below, (90, 110), joints, depth, threads=1, **options)
    np.testing.assert_array_equal(back(pictures), wanted)
