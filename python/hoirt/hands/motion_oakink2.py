"""OakInk2's annotations: a pickle of dictionaries by frame with torch tensors, motion capture at 120 Hz."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import InputError
from hoirt.hands.mano_file import read_bytes
from hoirt.hands.motion import Motion, MotionCamera
from hoirt.hands.motion_rotations import check_rotations, from_quaternions, to_axis_angles, transforms
from hoirt.safe_pickle import Limits, loads

# A sequence has thousands of frames, and each frame some thirty tensors in files of their own.
_LIMITS = Limits(size=2 * 2**30, instructions=100_000_000, depth=16)
_CAPTURE_HZ = 120.0


def read(path: Path, side: str | None, camera: str | None) -> Motion:
    """mocap_frame_id_list; raw_mano by frame: rh__ and lh__ pose_coeffs (1, 16, 4) quaternions wxyz, tsl (1,
    3), betas (1, 10); obj_transf by object and frame: (4, 4); cam_extr and cam_intr by camera and frame: (4,
    4), (3, 3).

    Quaternions stand for the whole rotation (no mean pose), and the translation is the wrist's place.
    """
    side = side or "right"
    content = loads(read_bytes(path, _LIMITS.size), str(path), _LIMITS)
    if not isinstance(content, dict):
        raise InputError(f"{path}: an OakInk2 annotation is a dictionary, not a {type(content).__name__}")
    hands, listed = _dictionary(content, "raw_mano", path), content.get("mocap_frame_id_list")
    if not isinstance(listed, list) or not all(type(frame) is int for frame in listed):
        raise InputError(f"{path}: 'mocap_frame_id_list' must be a list of integers")
    frames = [frame for frame in listed if frame in hands]
    views = None
    if camera is not None:
        views = _by_camera(content, "cam_extr", camera, path)
        frames = [frame for frame in frames if frame in views]
    if not frames:
        raise InputError(f"{path}: no frame has a hand" + (f" and the camera '{camera}'" if camera else ""))
    prefix = "rh__" if side == "right" else "lh__"
    coefficients = _stack(hands, frames, prefix + "pose_coeffs", (16, 4), path)
    shapes = _stack(hands, frames, prefix + "betas", (10,), path)
    if np.ptp(shapes, axis=0).max() > 1e-4:
        raise InputError(f"{path}: the shape of the hand changes over the frames")
    valid = np.linalg.norm(coefficients, axis=2).min(axis=1) > 1e-6
    pose = np.zeros((len(frames), 48))
    pose[valid] = to_axis_angles(from_quaternions(coefficients[valid], order="wxyz")).reshape(-1, 48)
    things = _dictionary(content, "obj_transf", path)
    steps = np.diff(frames)
    return Motion(
        format="oakink2",
        side=side,
        fps=_CAPTURE_HZ / (float(np.median(steps)) if len(steps) else 1.0),
        frames=np.array(frames, np.int64),
        pose=pose.astype(np.float32),
        translation=_stack(hands, frames, prefix + "tsl", (3,), path).astype(np.float32),
        shape=shapes[0].astype(np.float32),
        flat_hand_mean=True,
        components=False,
        origin="wrist",
        valid=valid,
        objects={
            str(name): _poses(part, frames, f"{path}: obj_transf of {name}") for name, part in things.items()
        },
        camera=None if views is None else _camera(content, views, str(camera), frames, path),
    )


def _camera(
    content: dict[Any, Any], views: dict[Any, Any], name: str, frames: list[int], path: Path
) -> MotionCamera:
    label = f"{path}: cam_intr of {name}"
    by_frame = _by_camera(content, "cam_intr", name, path)
    matrices = np.stack([_matrix(by_frame.get(frame), (3, 3), label) for frame in frames])
    if np.ptp(matrices, axis=0).max() > 1e-3:
        raise InputError(f"{label}: they change over the frames")
    matrix = matrices[0]
    square = abs(matrix[0, 1]) < 1e-6 and np.allclose(matrix[2], [0, 0, 1])
    if not square or min(matrix[0, 0], matrix[1, 1]) <= 0:
        raise InputError(f"{label}: this is no pinhole camera without skew")
    extrinsics = _poses(views, frames, f"{path}: cam_extr of {name}")
    return MotionCamera(matrix[[0, 1, 0, 1], [0, 1, 2, 2]], extrinsics, None)


def _poses(by_frame: Any, frames: list[int], name: str) -> NDArray[np.float64]:
    """(T, 4, 4), NaN where a frame is missing."""
    if not isinstance(by_frame, dict):
        raise InputError(f"{name} must be a dictionary by frame")
    poses = np.full((len(frames), 4, 4), np.nan)
    present = [k for k, frame in enumerate(frames) if frame in by_frame]
    if present:
        matrices = np.stack([_matrix(by_frame[frames[k]], (4, 4), name) for k in present])
        if not np.allclose(matrices[:, 3], [0, 0, 0, 1], atol=1e-6):
            raise InputError(f"{name}: the last row is not 0 0 0 1")
        poses[present] = transforms(check_rotations(matrices[:, :3, :3], name), matrices[:, :3, 3])
    return poses


def _stack(
    hands: dict[Any, Any], frames: list[int], key: str, shape: tuple[int, ...], path: Path
) -> NDArray[np.float64]:
    rows = []
    for frame in frames:
        value = hands[frame].get(key) if isinstance(hands[frame], dict) else None
        rows.append(_matrix(value, (1, *shape), f"{path}: {key} of frame {frame}")[0])
    return np.stack(rows)


def _matrix(value: Any, shape: tuple[int, ...], name: str) -> NDArray[np.float64]:
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or value.shape != shape:
        found = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise InputError(f"{name} must hold floating point numbers of shape {shape}, not {found}")
    if not np.isfinite(value).all():
        raise InputError(f"{name} holds NaN or infinity")
    return value.astype(np.float64)


def _dictionary(content: dict[Any, Any], key: str, path: Path) -> dict[Any, Any]:
    if not isinstance(content.get(key), dict):
        raise InputError(f"{path}: '{key}' must be a dictionary")
    return dict(content[key])


def _by_camera(content: dict[Any, Any], key: str, name: str, path: Path) -> dict[Any, Any]:
    cameras = _dictionary(content, key, path)
    if not isinstance(cameras.get(name), dict):
        raise InputError(f"{path}: there is no camera '{name}'; there are {sorted(map(str, cameras))[:12]}")
    return dict(cameras[name])
