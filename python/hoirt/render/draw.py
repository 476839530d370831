"""Hands of 21 joints as the pictures that PAM and OpenPose ControlNets take, pixel by pixel as in OpenCV."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hoirt.errors import InputError
from hoirt.render.palettes import openpose_hand, pam_hand

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

HandStyle = Literal["dexycb", "oakink2", "openpose"]

_MOST_SIDE = 8192
# Half widths in pixels of the ellipses of the thumb and of the other fingers.
_HALF_WIDTHS = {"dexycb": (6, 3), "oakink2": (4, 2), "openpose": (0, 0)}


def draw_hand(
    joints_2d: ArrayLike,
    size: tuple[int, int] | None = None,
    *,
    style: HandStyle = "dexycb",
    depth: ArrayLike | None = None,
    side: Literal["left", "right"] | None = None,
    below: ArrayLike | None = None,
    threads: int = 0,
) -> NDArray[np.uint8]:
    """A hand per frame on black, RGB uint8 (N, H, W, 3); without the axis N if `joints_2d` comes without it.

    joints_2d: (N, 21, 2) or (21, 2), floating or integer pixels (x, y), within +-2^30; wrist, then thumb,
    index, middle, ring and little finger from root to tip. Parts outside of the picture are cut.
    size: (H, W), sides 1..8192. below: uint8 (N, H, W, 3) to draw on (a copy of it) instead of black, for
    further hands; it has the size then.

    "dexycb" and "oakink2" are PAM's keypoints. Coordinates are rounded, halves to even; 21 discs of radius
    3, then 20 ellipses as 1-degree polygons between joints 5 to 150 pixels apart (both ends excluded),
    their half width 6 for the thumb and 3 for fingers (DexYCB) or 4 and 2 (OakInk2). Joint i and limb i
    have the colour of finger i // 4, 35 brighter for each i % 4, saturated. With `depth` (N, 21), metres or
    any unit, limbs, not joints, are drawn in reversed order where the wrist is nearer than the last joint.
    A frame with a coordinate of exactly -1 is left blank. side="right" has the red and grey colours of
    OakInk2's right hands.
    "openpose" is ControlNet's hand: 20 lines of thickness 2 round the hues, then blue discs of radius 4;
    coordinates are cut to integers, and joints at x < 1 or y < 1 are left out together with their lines;
    `depth` and `side` do not apply. It is the drawing of the annotator alone, without its search for hands
    and without a body.

    Source: PAM, training/hoi_utils.py and gen_hand_seg_oakink2.py; ControlNet, annotator/openpose/util.py.
    InputError: wrong shapes, dtypes, NaN, unknown names.
    """
    from hoirt import _core

    if style not in _HALF_WIDTHS:
        raise InputError(f'style must be "dexycb", "oakink2" or "openpose", not {style!r}')
    if side not in (None, "left", "right"):
        raise InputError(f'side must be "left", "right" or None, not {side!r}')
    if style != "oakink2" and side == "right":
        raise InputError(f'only style="oakink2" has colours for right hands, not "{style}"; leave side out')
    if style == "openpose" and depth is not None:
        raise InputError('style="openpose" does not order by depth; leave depth out')
    points = _floats(joints_2d, "joints_2d")
    one = points.ndim == 2
    if one:
        points = points[None]
    if points.ndim != 3 or points.shape[1:] != (21, 2):
        raise InputError(f"joints_2d must have shape (N, 21, 2) or (21, 2), not {np.shape(joints_2d)}")
    z = None if depth is None else _floats(depth, "depth")
    if z is not None and one and z.ndim == 1:
        z = z[None]
    joint_colours, limb_colours = openpose_hand() if style == "openpose" else pam_hand(right=side == "right")
    pictures = _core.draw_hands(
        _with_frames(below) if one else below,
        _sides(size, below),
        points,
        z,
        lines=style == "openpose",
        joint_radius=4 if style == "openpose" else 3,
        half_widths=_HALF_WIDTHS[style],
        joint_colours=joint_colours,
        limb_colours=limb_colours,
        threads=threads,
    )
    return pictures[0] if one else pictures


def _with_frames(below: Any) -> Any:
    """One picture (H, W, 3) as (1, H, W, 3); anything else as it is."""
    return below[None] if getattr(below, "ndim", None) == 3 else below


def _sides(size: Any, below: Any) -> tuple[int, int]:
    """(H, W) of black pictures; not used where there are pictures below."""
    if (size is None) == (below is None):
        raise InputError("give either size (H, W) or below, pictures to draw on")
    if below is not None:
        return 0, 0
    sides = tuple(size) if isinstance(size, tuple | list) else ()
    whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in sides)
    if len(sides) != 2 or not whole or not all(1 <= n <= _MOST_SIDE for n in sides):
        raise InputError(f"size must be (H, W) with whole sides in 1..{_MOST_SIDE}, not {size!r}")
    return int(sides[0]), int(sides[1])


def _floats(values: Any, name: str) -> NDArray[np.float64]:
    """Real numbers as float64; texts, bools, objects and complex numbers are refused."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"{name}: {error}") from None
    if array.dtype.kind not in "fiu":
        raise InputError(f"{name} must hold real numbers, not {array.dtype}")
    return np.ascontiguousarray(array, np.float64)
