"""Arrays as pictures: NumPy or any DLPack tensor on the CPU, in the usual shapes and dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import InputError
from hoirt.imaging.picture import Picture, Pixels, check_size


def is_array(source: object) -> bool:
    """True for NumPy arrays and whatever speaks an array protocol (torch, JAX, CuPy, ...)."""
    return any(hasattr(source, name) for name in ("__array_interface__", "__dlpack__", "__array__"))


def as_numpy(source: Any, what: str) -> NDArray[Any]:
    """A NumPy view of `source` where possible; InputError if it cannot be one."""
    if isinstance(source, np.ndarray):
        return source
    try:
        if hasattr(source, "__dlpack__"):
            from hoirt import _core

            return np.asarray(_core.Tensor(source).numpy())
        return np.asarray(source)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        reason = str(error).partition("\n")[0]  # torch's errors bring stacks along
        raise InputError(
            f"{what} of type {type(source).__name__} cannot be read as an array: {reason}"
        ) from error


def to_uint8(array: NDArray[Any], what: str) -> Pixels:
    """uint8 as it is; uint16 / 257; bool and float 0..1 times 255; rounded. Other values are InputErrors."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return np.asarray(array.astype(np.uint8) * np.uint8(255))
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:
        return np.asarray((array.astype(np.uint32) + 128) // 257, np.uint8)
    if array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise InputError(f"{what} holds NaN or infinity")
        if low < 0.0 or high > 1.0:
            raise InputError(f"{what} holds floats in {low:g}..{high:g}; floats must lie in 0..1")
        return np.asarray(np.rint(array.astype(np.float32) * 255.0), np.uint8)
    raise InputError(f"{what} has dtype {array.dtype}; use uint8, uint16, bool, or float in 0..1")


def picture_from_array(source: Any, what: str) -> Picture:
    """A Picture from (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), channels last, alpha fourth."""
    array = as_numpy(source, what)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        hint = "; put the channels last" if array.ndim == 3 and array.shape[0] in (1, 3, 4) else ""
        raise InputError(
            f"{what} has shape {array.shape}; use (H, W), (H, W, 1), (H, W, 3) or (H, W, 4){hint}"
        )
    check_size(array.shape[0], array.shape[1], what)
    values = to_uint8(array, what)
    grey = values.ndim == 2 or values.shape[2] == 1
    if grey:
        pixels = np.repeat(values.reshape(*values.shape[:2], 1), 3, axis=2)
    else:
        pixels = np.ascontiguousarray(values[..., :3])
    alpha = values[..., 3].copy() if not grey and values.shape[2] == 4 else None
    return Picture(pixels, alpha, array, grey)
