"""Masks and depth maps given by the user: one channel of the picture's size."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import InputError
from hoirt.imaging.arrays import as_numpy, is_array
from hoirt.imaging.picture import Pixels
from hoirt.imaging.read import load


def load_mask(source: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    """True = regenerate, bool (H, W). Takes whatever `load` takes, and arrays of 0 and 1; the threshold is
    half.
    """
    if is_array(source):
        array = as_numpy(source, "mask")
        if array.dtype.kind in "iu" and array.size and array.min() >= 0 and array.max() <= 1:
            source = array.astype(np.bool_)
    return _one_channel(source, size, "mask") >= 128


def load_depth(source: Any, size: tuple[int, int]) -> Pixels:
    """Hand depth, uint8 (H, W): 255 nearest .. 51 farthest, 0 background. Takes whatever `load` takes."""
    return _one_channel(source, size, "depth")


def _one_channel(source: Any, size: tuple[int, int], what: str) -> Pixels:
    picture = load(source, what)
    if picture.size != size:
        (h, w), (height, width) = picture.size, size
        raise InputError(f"{what} is {w} x {h} pixels but the picture is {width} x {height}")
    if np.any(picture.pixels != picture.pixels[..., :1]):
        raise InputError(f"{what} is coloured; it must have one channel, or three equal ones")
    return picture.pixels[..., 0]
