"""Rotations between the forms that hand data comes in; where forms look alike, the caller says which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hoirt.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Doubles = NDArray[np.float64]

_UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001}


def from_6d(values: ArrayLike, *, layout: str) -> Doubles:
    """Rotation matrices (..., 3, 3) from six numbers (..., 6), made orthonormal by Gram-Schmidt.

    Args:
        values: (..., 6).
        layout: "columns": the first column, then the second (HaMeR); "rows": the first row, then the second
            (pytorch3d, InterHandGen), which is the inverse rotation; "interleaved": the first two columns row
            by row (GrabNet, SPIN).

    Raises:
        InputError: unknown layout, wrong shape, NaN, or two directions that are parallel or zero.
    """
    array = _numbers(values, (6,), "the 6D rotations")
    if layout not in ("columns", "rows", "interleaved"):
        raise InputError(f"layout must be 'columns', 'rows' or 'interleaved', not {layout!r}")
    pair = array.reshape(*array.shape[:-1], 3, 2).swapaxes(-1, -2) if layout == "interleaved" else None
    first, second = (array[..., :3], array[..., 3:]) if pair is None else (pair[..., 0, :], pair[..., 1, :])
    x = _unit(first, "a first direction of a 6D rotation")
    y = _unit(second - (x * second).sum(-1, keepdims=True) * x, "the second direction of a 6D rotation")
    return np.stack([x, y, np.cross(x, y)], axis=-2 if layout == "rows" else -1)


def to_6d(matrices: ArrayLike, *, layout: str) -> Doubles:
    """The inverse of `from_6d`: (..., 6) from (..., 3, 3)."""
    array = _numbers(matrices, (3, 3), "the matrices")
    if layout == "rows":
        return array[..., :2, :].reshape(*array.shape[:-2], 6)
    if layout == "columns":
        return array[..., :2].swapaxes(-1, -2).reshape(*array.shape[:-2], 6)
    if layout == "interleaved":
        return array[..., :2].reshape(*array.shape[:-2], 6)
    raise InputError(f"layout must be 'columns', 'rows' or 'interleaved', not {layout!r}")


def from_quaternions(values: ArrayLike, *, order: str) -> Doubles:
    """Rotation matrices (..., 3, 3) from quaternions (..., 4) of any length but zero.

    Args:
        values: (..., 4).
        order: "wxyz" (manotorch, OakInk2, pytorch3d, GraspXL's simulator) or "xyzw" (SciPy, DexYCB's pose
        files).

    Raises:
        InputError: unknown order, wrong shape, NaN, or a quaternion of length 0.
    """
    array = _numbers(values, (4,), "the quaternions")
    if order not in ("wxyz", "xyzw"):
        raise InputError(f"order must be 'wxyz' or 'xyzw', not {order!r}")
    real_first = array if order == "wxyz" else np.roll(array, 1, axis=-1)
    w, x, y, z = np.moveaxis(_unit(real_first, "a quaternion"), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def from_axis_angles(values: ArrayLike) -> Doubles:
    """Rotation matrices (..., 3, 3) from axis-angle radians (..., 3)."""
    vectors = _numbers(values, (3,), "the axis-angles")
    half = 0.5 * np.linalg.norm(vectors, axis=-1, keepdims=True)
    # sin(a/2)/a through sinc, exact at zero.
    return from_quaternions(
        np.concatenate([np.cos(half), 0.5 * np.sinc(half / np.pi) * vectors], -1), order="wxyz"
    )


def to_axis_angles(matrices: ArrayLike) -> Doubles:
    """Axis-angle radians (..., 3), of length 0..pi, of rotation matrices (..., 3, 3).

    Raises:
        InputError: wrong shape, NaN, or a matrix that is no rotation (more than 1e-3 off).
    """
    array = check_rotations(matrices, "the matrices")
    m = np.moveaxis(array, (-2, -1), (0, 1))
    # The four squares of a quaternion's parts, times four; the largest is divided by, so nothing cancels.
    squares = np.stack([1 + m[0, 0] + m[1, 1] + m[2, 2], 1 + m[0, 0] - m[1, 1] - m[2, 2],
                        1 - m[0, 0] + m[1, 1] - m[2, 2], 1 - m[0, 0] - m[1, 1] + m[2, 2]], -1)  # fmt: skip
    wx, wy, wz = m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]
    xy, xz, yz = m[1, 0] + m[0, 1], m[0, 2] + m[2, 0], m[2, 1] + m[1, 2]
    rows = [[squares[..., 0], wx, wy, wz], [wx, squares[..., 1], xy, xz],
            [wy, xy, squares[..., 2], yz], [wz, xz, yz, squares[..., 3]]]  # fmt: skip
    table = np.stack([np.stack(row, -1) for row in rows], -2)
    largest = squares.argmax(-1)[..., None, None]
    q = _unit(np.take_along_axis(table, largest, axis=-2)[..., 0, :], "a rotation")
    q = np.where(q[..., :1] < 0, -q, q)
    length = np.linalg.norm(q[..., 1:], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(length, q[..., :1])
    scale = np.where(length > 1e-12, angle / np.maximum(length, 1e-12), 2.0)
    return np.asarray(q[..., 1:] * scale)


def check_rotations(matrices: ArrayLike, name: str) -> Doubles:
    """float64 (..., 3, 3), if they are rotations to 1e-3. Raises InputError."""
    array = _numbers(matrices, (3, 3), name)
    error = np.abs(array @ array.swapaxes(-1, -2) - np.eye(3)).max(initial=0.0)
    if error > 1e-3 or (np.linalg.det(array) < 0).any():
        raise InputError(f"{name} are no rotations: R R^T is {error:.2g} off the identity, or they mirror")
    return array


def transforms(rotations: Doubles, translations: Doubles) -> Doubles:
    """(..., 4, 4) from (..., 3, 3) and (..., 3)."""
    result = np.zeros((*rotations.shape[:-2], 4, 4))
    result[..., :3, :3], result[..., :3, 3], result[..., 3, 3] = rotations, translations, 1.0
    return result


def metres(values: ArrayLike, *, unit: str) -> Doubles:
    """Lengths in metres; `unit` is "m" (smplx, manotorch), "cm" or "mm" (manopth's vertices and joints)."""
    if unit not in _UNITS:
        raise InputError(f"unit must be one of {', '.join(map(repr, _UNITS))}, not {unit!r}")
    return _numbers(values, (), "the lengths") * _UNITS[unit]


def _numbers(values: Any, tail: tuple[int, ...], name: str) -> Doubles:
    array = np.asarray(values)
    if array.dtype.kind not in "fiu" or array.shape[array.ndim - len(tail) :] != tail:
        wanted = ", ".join(["...", *map(str, tail)])
        raise InputError(f"{name} must be numbers of shape ({wanted}), not {array.dtype} {array.shape}")
    if not np.isfinite(array).all():
        raise InputError(f"{name} hold NaN or infinity")
    return array.astype(np.float64)


def _unit(vectors: Doubles, name: str) -> Doubles:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not (length > 1e-9).all():
        raise InputError(f"{name} has length 0, or is parallel to the first")
    return np.asarray(vectors / length)
