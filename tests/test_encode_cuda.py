"""Encoders and hand drawing on a CUDA device equal the CPU's, bit for bit; skipped where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hoirt import _core
from hoirt.render.palettes import ade20k, inferno, openpose_hand, pam_hand

torch = pytest.importorskip("torch")
cuda = pytest.importorskip("hoirt._core_cuda", reason="the CUDA module is not built here")
if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)

SHAPE = (3, 61, 83)


def on_device(array: np.ndarray) -> Any:
    return torch.from_numpy(np.ascontiguousarray(array)).cuda()


def empty(*shape: int) -> Any:
    return torch.full(shape, 99, dtype=torch.uint8, device="cuda")


def workspace(*shape: int) -> Any:
    return torch.empty(shape, dtype=torch.float32, device="cuda")


def buffers() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    depth = np.where(rng.random(SHAPE) < 0.4, 0, rng.uniform(0.2, 3.0, SHAPE)).astype(np.float32)
    return depth, np.where(depth > 0, rng.integers(0, 5, SHAPE), -1).astype(np.int32)


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("one_by_one", [False, True])
def test_hand_depth(nearest: bool, one_by_one: bool) -> None:
    depth, ids = buffers()
    layers = depth[:, None] * (ids[:, None] == np.arange(5)[:, None, None])
    given = layers.astype(np.float32) if one_by_one else depth
    z, hands, out, ranges = on_device(given), on_device(ids), empty(*SHAPE), workspace(3, 5, 2)
    cuda.hand_depth(
        z.data_ptr(),
        0 if one_by_one else hands.data_ptr(),
        ranges.data_ptr(),
        out.data_ptr(),
        frames=3,
        hands=5,
        pixels=SHAPE[1] * SHAPE[2],
        farthest=51,
        nearest_integer=nearest,
        stream=torch.cuda.current_stream().cuda_stream,
    )
    wanted = _core.hand_depth(
        given, None if one_by_one else ids, farthest=51, nearest_integer=nearest, threads=1
    )
    np.testing.assert_array_equal(out.cpu().numpy(), wanted)


@pytest.mark.parametrize("disparity", [False, True])
def test_coloured_depth(disparity: bool) -> None:
    depth, _ = buffers()
    z, table, out, range_ = on_device(depth), on_device(inferno()), empty(*SHAPE, 3), workspace(2)
    options = {"low": 38 / 255, "high": 213 / 255, "disparity": disparity}
    stream = torch.cuda.current_stream().cuda_stream
    addresses = [t.data_ptr() for t in (z, table, range_, out)]
    cuda.coloured_depth(*addresses, pixels=depth.size, stream=stream, **options)
    np.testing.assert_array_equal(
        out.cpu().numpy(), _core.coloured_depth(depth, inferno(), threads=1, **options)
    )


def test_coloured_instances_and_normals() -> None:
    _, ids = buffers()
    stream = torch.cuda.current_stream().cuda_stream
    given, table, out = on_device(ids), on_device(ade20k()[:6]), empty(*SHAPE, 3)
    cuda.coloured_instances(
        given.data_ptr(), table.data_ptr(), out.data_ptr(), ids=5, pixels=ids.size, stream=stream
    )
    np.testing.assert_array_equal(out.cpu().numpy(), _core.coloured_instances(ids, ade20k()[:6], threads=1))
    normals = np.random.default_rng(1).uniform(-1, 1, (*SHAPE, 3)).astype(np.float32)
    vectors = on_device(normals)
    for flip in (False, True):
        cuda.coloured_normals(vectors.data_ptr(), out.data_ptr(), pixels=ids.size, flip=flip, stream=stream)
        np.testing.assert_array_equal(
            out.cpu().numpy(), _core.coloured_normals(normals, flip=flip, threads=1)
        )


@pytest.mark.parametrize("lines", [False, True])
def test_draw_hands(lines: bool) -> None:
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
    pictures, points, z = on_device(below), on_device(joints), on_device(depth)
    order = torch.empty((20, 90, 110), dtype=torch.int32, device="cuda")
    addresses = [t.data_ptr() for t in (pictures, order, points, z)]
    stream = torch.cuda.current_stream().cuda_stream
    cuda.draw_hands(*addresses, frames=20, size=(90, 110), stream=stream, **options)
    wanted = _core.draw_hands(below, (90, 110), joints, depth, threads=1, **options)
    np.testing.assert_array_equal(pictures.cpu().numpy(), wanted)
