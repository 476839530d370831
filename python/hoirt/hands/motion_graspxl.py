"""GraspXL's motions: a .npy with one dictionary of arrays, simulated at 100 Hz, z upwards, metres."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import InputError
from hoirt.hands.mano_file import read_bytes
from hoirt.hands.motion import Motion
from hoirt.hands.motion_arrays import parse_npy
from hoirt.hands.motion_rotations import from_axis_angles, transforms
from hoirt.safe_pickle import Limits

_LIMITS = Limits(size=64 * 2**20, instructions=100_000, depth=8)
_HANDS = {"right_hand": "right", "left_hand": "left"}


def read(path: Path, side: str | None, camera: str | None) -> Motion:
    """A dictionary of 'right_hand' {trans, rot (T, 3), pose (T, 45)} and per object {trans, rot (T, 3)}.

    The translation has MANO's root offset taken off already, and the mean pose is taken off the fingers.
    """
    array = parse_npy(read_bytes(path, _LIMITS.size), str(path), _LIMITS)
    content = array.item() if array.dtype == object and array.shape == () else None
    if not isinstance(content, dict):
        raise InputError(f"{path}: a GraspXL file holds one dictionary, not an array of shape {array.shape}")
    hands = [key for key in content if key in _HANDS]
    if len(hands) != 1:
        raise InputError(f"{path}: holds the keys {sorted(map(str, content))[:6]}; one must be 'right_hand'")
    hand = content[hands[0]]
    trans, count = _array(hand, "trans", 3, None, path), len(_array(hand, "trans", 3, None, path))
    rot, fingers = _array(hand, "rot", 3, count, path), _array(hand, "pose", 45, count, path)
    objects = {
        str(key): transforms(
            from_axis_angles(_array(part, "rot", 3, count, path)), _array(part, "trans", 3, count, path)
        )
        for key, part in content.items()
        if key not in _HANDS
    }
    return Motion(
        format="graspxl",
        side=_HANDS[hands[0]],
        fps=100.0,
        frames=np.arange(count),
        pose=np.concatenate([rot, fingers], axis=1).astype(np.float32),
        translation=trans.astype(np.float32),
        shape=np.zeros(10, np.float32),
        flat_hand_mean=False,
        components=False,
        origin="mano",
        valid=np.ones(count, bool),
        objects=objects,
    )


def _array(part: Any, key: str, width: int, count: int | None, path: Path) -> NDArray[np.float64]:
    array = part.get(key) if isinstance(part, dict) else None
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        raise InputError(f"{path}: '{key}' must be an array of floating point numbers")
    if array.ndim != 2 or array.shape[1] != width or (count is not None and len(array) != count):
        wanted = f"({count or 'T'}, {width})"
        if key == "pose" and array.shape[1:] == (22,):
            wanted += "; the 22 joints of Allegro hands are not read"
        raise InputError(f"{path}: '{key}' has shape {array.shape}, not {wanted}")
    if not np.isfinite(array).all():
        raise InputError(f"{path}: '{key}' holds NaN or infinity")
    return array.astype(np.float64)
