"""DexYCB's labels: one .npz per frame and camera, in that camera's coordinates, 640 x 480 pixels at 30 Hz."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import InputError
from hoirt.hands.mano_file import read_bytes
from hoirt.hands.motion import Motion, MotionCamera
from hoirt.hands.motion_arrays import parse_npz
from hoirt.hands.motion_rotations import check_rotations, transforms
from hoirt.hands.motion_yaml import parse_yaml

_MAX_FRAMES = 100_000
_MAX_BYTES = 64 * 2**20


def read(path: Path, side: str | None, camera: str | None) -> Motion:
    """DATASET/SUBJECT/SEQUENCE/SERIAL/labels_NNNNNN.npz, with meta.yml in SEQUENCE and DATASET/calibration.

    pose_m (1, 51): the wrist's axis-angle, 45 coefficients of MANO's components about its mean pose,
    translation; zeros where there is no hand. pose_y (O, 3, 4): object to camera. The calibration gives shape
    and camera; without its folder both are None.
    """
    path = path.absolute()  # its parents are needed
    files = sorted(path.glob("labels_*.npz")) if path.is_dir() else [path]
    if not files or len(files) > _MAX_FRAMES:
        raise InputError(f"{path}: holds {len(files)} files labels_*.npz, not 1 to {_MAX_FRAMES}")
    meta = _mapping(files[0].parent.parent / "meta.yml")
    sides, names = _list(meta, "mano_sides"), [f"ycb_{index}" for index in _list(meta, "ycb_ids")]
    if len(sides) != 1 or sides[0] not in ("right", "left"):
        raise InputError(f"meta.yml: mano_sides must name one hand, not {sides}")
    hands, objects, numbers = [], [], []
    for file in files:
        number = file.stem.rpartition("_")[2]
        if not (number.isascii() and number.isdecimal() and len(number) <= 9):
            raise InputError(f"{file}: the name must be labels_ and the number of the frame")
        arrays = parse_npz(read_bytes(file, _MAX_BYTES), ("pose_m", "pose_y"), str(file))
        hands.append(_checked(arrays["pose_m"], (1, 51), f"{file}: pose_m")[0])
        objects.append(_checked(arrays["pose_y"], (len(names), 3, 4), f"{file}: pose_y"))
        numbers.append(int(number))
    hand, things = np.stack(hands), np.stack(objects)
    return Motion(
        format="dexycb",
        side=sides[0],
        fps=30.0,
        frames=np.array(numbers, np.int64),
        pose=hand[:, :48].astype(np.float32),
        translation=hand[:, 48:].astype(np.float32),
        shape=_shape(files[0], meta),
        flat_hand_mean=False,
        components=True,
        origin="mano",
        valid=np.asarray(hand.any(axis=1)),
        objects={name: _poses(things[:, k], name) for k, name in enumerate(names)},
        camera=_camera(files[0]),
    )


def _poses(matrices: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """(T, 4, 4) from (T, 3, 4); NaN where all are zero, which is how an untracked object is written."""
    tracked = matrices.any(axis=(1, 2))
    poses = np.full((len(matrices), 4, 4), np.nan)
    rotations = check_rotations(matrices[tracked, :, :3], f"pose_y of {name}")
    poses[tracked] = transforms(rotations, matrices[tracked, :, 3])
    return poses


def _shape(file: Path, meta: dict[str, Any]) -> NDArray[np.float32] | None:
    folder = _calibration(file)
    names = _list(meta, "mano_calib")
    if folder is None:
        return None
    if len(names) != 1 or not _is_name(names[0]):
        raise InputError(f"meta.yml: mano_calib must be one name, not {names}")
    where = folder / f"mano_{names[0]}" / "mano.yml"
    betas = _list(_mapping(where), "betas")
    return _numbers(betas, 10, f"{where}: betas").astype(np.float32)


def _camera(file: Path) -> MotionCamera | None:
    folder = _calibration(file)
    if folder is None:
        return None
    where = folder / "intrinsics" / f"{file.parent.name}_640x480.yml"
    color = _mapping(where).get("color")
    if not isinstance(color, dict):
        raise InputError(f"{where}: 'color' is missing")
    values = _numbers([color.get(key) for key in ("fx", "fy", "ppx", "ppy")], 4, f"{where}: fx, fy, ppx, ppy")
    return MotionCamera(values, np.eye(4), (480, 640))


def _calibration(file: Path) -> Path | None:
    folder = file.parent.parent.parent.parent / "calibration"
    return folder if folder.is_dir() else None


def _mapping(path: Path) -> dict[str, Any]:
    content = parse_yaml(read_bytes(path, 1 << 20), str(path))
    if not isinstance(content, dict):
        raise InputError(f"{path}: must be a mapping, not a list")
    return content


def _list(content: dict[str, Any], key: str) -> list[Any]:
    if not isinstance(content.get(key), list):
        raise InputError(f"'{key}' must be a list, not {str(content.get(key))[:40]!r}")
    return list(content[key])


def _numbers(values: list[Any], count: int, name: str) -> NDArray[np.float64]:
    if len(values) != count or not all(type(value) in (int, float) for value in values):
        raise InputError(f"{name} must be {count} numbers")
    return np.array(values, np.float64)


def _is_name(value: Any) -> bool:
    """One part of a path, so that nothing outside of the calibration folder is read."""
    return isinstance(value, str) and value not in ("", ".", "..") and not set("/\\\0") & set(value)


def _checked(array: NDArray[Any], shape: tuple[int, ...], name: str) -> NDArray[np.float64]:
    if array.dtype.kind != "f" or array.shape != shape:
        found = f"{array.dtype} {array.shape}"
        raise InputError(f"{name} must hold floating point numbers of shape {shape}, not {found}")
    if not np.isfinite(array).all():
        raise InputError(f"{name} holds NaN or infinity")
    return array.astype(np.float64)
