"""What the caller tells about the hands: boxes, keypoints, masks, meshes, indices, "all" or "malformed"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import InputError
from hoirt.hands.hand import Hand
from hoirt.hands.window import Box

MOST = 64  # hands of one picture
_KEYPOINT_MARGIN = 1.23  # side of the hand box over that of the keypoints' bounding box
_FORMS = (
    "a box (x0, y0, x1, y1), keypoints of shape (21, 2), a mask of the picture's size (H, W), bool or uint8, "
    "a Hand, or the index of a detected hand"
)


@dataclass(frozen=True)
class Place:
    """Where the caller says a hand is: its box in pixels, and the keypoints (21, 2) if these were told."""

    box: Box
    keypoints: NDArray[np.float32] | None = None


Entry: TypeAlias = Hand | Place | int  # an int counts the detected hands, from 0
Selection: TypeAlias = Literal["all", "malformed"]


def read_told(told: Any, size: tuple[int, int]) -> Selection | list[Entry]:
    """The argument `hands` for a picture of `size` (H, W); None means "all".

    Raises InputError, naming the entry, for whatever cannot be a hand of this picture.
    """
    if told is None:
        return "all"
    if isinstance(told, str):
        if told == "all":
            return "all"
        if told == "malformed":
            return "malformed"
        raise InputError(f'hands must be "all", "malformed" or a list, not {told!r:.80}')
    if isinstance(told, Hand):
        raise InputError("hands must be a list; write hands=[hand]")
    if not isinstance(told, list | tuple | np.ndarray):
        raise InputError(
            f'hands must be "all", "malformed", or a list whose entries are each {_FORMS}, '
            f"not a {type(told).__name__}"
        )
    if isinstance(told, np.ndarray) and told.ndim == 0:
        raise InputError("hands is an array without dimensions; write hands=[...]")
    if isinstance(told, np.ndarray) and told.ndim == 2 and told.dtype == np.bool_:
        raise InputError("hands is one mask; write hands=[mask], with one mask per hand")
    if len(told) > MOST:
        raise InputError(f"hands has {len(told)} entries; at most {MOST} are refined at once")
    entries = [_entry(entry, size, f"hands[{index}]") for index, entry in enumerate(told)]
    indices = [entry for entry in entries if isinstance(entry, int)]
    if len(set(indices)) < len(indices):
        raise InputError(f"hands = {indices} names a detected hand twice")
    return entries


def pick(detected: list[Any], index: int) -> Any:
    """The detected hand that an index means; InputError if there are not so many."""
    if index < len(detected):
        return detected[index]
    count = f"{len(detected)} hand{'' if len(detected) == 1 else 's'}"
    raise InputError(
        f"hands asks for detected hand {index}, but {count} were detected in this picture, counted from 0; "
        "a single box is written hands=[(x0, y0, x1, y1)]"
    )


def _entry(entry: Any, size: tuple[int, int], name: str) -> Entry:
    if isinstance(entry, Hand):
        _clipped(entry.box, size, name)
        return entry
    if isinstance(entry, int | np.integer) and not isinstance(entry, bool):
        if entry < 0:
            raise InputError(f"{name} = {entry} cannot be an index; detected hands are counted from 0")
        return int(entry)
    values = _array(entry)
    if values.shape == size and values.dtype in (np.bool_, np.uint8):
        return Place(_around_mask(values, name))
    if values.dtype == np.bool_ and values.ndim:
        raise InputError(
            f"{name} is a mask of shape {values.shape}, but the picture's (height, width) is {size}"
        )
    values = values.astype(np.float64) if values.dtype.kind in "iuf" else np.empty(0)
    if values.shape not in ((4,), (21, 2)):
        shape = f" of shape {values.shape}" if values.size else ""
        raise InputError(
            f"{name} is a {type(entry).__name__}{shape}; it must be {_FORMS}; the picture is {size}"
        )
    if not np.isfinite(values).all():
        raise InputError(f"{name} holds NaN or infinity")
    if values.shape == (21, 2):
        box = _clipped(around_keypoints(values, _KEYPOINT_MARGIN), size, name)
        return Place(box, values.astype(np.float32))
    return Place(_clipped(values, size, name))


def _array(entry: Any) -> NDArray[Any]:
    """Empty for what is none."""
    try:
        return np.asarray(entry)
    except (TypeError, ValueError, RuntimeError):
        return np.empty(0)


def around_keypoints(points: NDArray[Any], margin: float = _KEYPOINT_MARGIN) -> Box:
    """The square box of a hand from its keypoints (21, 2): `margin` times their bounding square."""
    low, high = points.min(axis=0).astype(np.float64), points.max(axis=0).astype(np.float64)
    (x, y), half = ((low + high) / 2).tolist(), margin * float((high - low).max()) / 2
    return x - half, y - half, x + half, y + half


def _around_mask(mask: NDArray[Any], name: str) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise InputError(f"{name} is a mask in which no pixel is set")
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _clipped(box: Any, size: tuple[int, int], name: str) -> Box:
    """The part of a box that lies on the picture."""
    values, (height, width) = np.asarray(box, np.float64), size
    x0, x1 = np.clip(values[[0, 2]], 0, width).tolist()
    y0, y1 = np.clip(values[[1, 3]], 0, height).tolist()
    if x1 <= x0 or y1 <= y0:
        raise InputError(
            f"{name} = {tuple(np.round(values, 1).tolist())} is empty or outside the picture of "
            f"{width} x {height} pixels; give x0 < x1 and y0 < y1"
        )
    return x0, y0, x1, y1
