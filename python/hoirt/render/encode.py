"""Raster buffers as pictures that condition networks: HandRefiner's and PAM's depth, segmentation, normals.

Every encoder takes a clip with the leading axis N, or one frame without it, and gives the same. `threads` 0
is all cores; the bits do not depend on it. Wrong shapes, dtypes and values (NaN, unknown ids) are
InputErrors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hoirt.errors import InputError
from hoirt.render.palettes import ade20k, inferno

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_YCB_OBJECTS = 21
_ADE_HAND, _ADE_BACKGROUND = 149, 150
_OAKINK_SHIFT = 20
_OAKINK_OBJECTS = range(2, 121)


def hand_depth(
    depth: ArrayLike,
    instances: ArrayLike | None = None,
    *,
    farthest: int = 51,
    rounding: Literal["truncate", "nearest"] = "truncate",
    threads: int = 0,
) -> NDArray[np.uint8]:
    """HandRefiner's depth uint8 (N, H, W): every hand from 255, nearest, to `farthest`, 0 background.

    A hand's value at depth z is 255 (1 - 0.8 (z - nearest) / (farthest - nearest)), where 0.8 is (255 -
    `farthest`) / 255 and the range is that of the hand's own pixels, so hands are not comparable with each
    other. "truncate" cuts to a byte as the reference's cast does; its farthest pixel then often has 50, as
    255 (1 - 0.8) is a little less than 51 in float64. "nearest" rounds. A hand all of whose pixels have one
    depth is 255, where the reference divides by zero.

    depth: float32 metres along z, 0 where nothing is seen.
    - (N, H, W) with `instances` int32 (N, H, W), the id of the hand (0..65535) or -1: one z-buffer of all
      hands. The range of a hand is that of its visible pixels.
    - (N, M, H, W), always with N, without `instances`: M hands drawn one by one, sorted from far to near,
      as the reference does. A later hand covers an earlier one whichever is nearer at the pixel.
    Source: HandRefiner, arXiv 2311.17957, preprocessor/meshgraphormer.py.
    """
    from hoirt import _core

    if rounding not in ("truncate", "nearest"):
        raise InputError(f'rounding must be "truncate" or "nearest", not {rounding!r}')
    # Without instances (M, H, W) is refused: it may be a clip whose instances were forgotten.
    z, one = _with_frames(depth, 2) if instances is not None else (depth, False)
    ids = None if instances is None else _with_frames(instances, 2)[0]
    return _without_frames(
        _core.hand_depth(z, ids, farthest=farthest, nearest_integer=rounding == "nearest", threads=threads),
        one,
    )


def pam_depth(
    depth: ArrayLike,
    low: float = 0.0,
    high: float = 1.0,
    *,
    normalise: Literal["disparity", "depth"] = "disparity",
    threads: int = 0,
) -> NDArray[np.uint8]:
    """PAM's depth, RGB uint8 (N, H, W, 3): inferno colours, near bright, background black.

    The disparity 1 / z is normalised over the whole clip, not per frame, to `low` (farthest) .. `high`
    (nearest) with 0 <= low <= high <= 1, and times 255, cut to an integer, it is the index of the colour;
    "depth" normalises -z. A flat clip has the colour of `high`. PAM's own maps come from a depth estimator
    whose range holds the whole room before the background is blackened: there the foreground spans about
    38/255 to 213/255.

    depth: float32 (N, H, W), metres along z, 0 where nothing is seen.
    Source: PAM, training/dataset.py; DepthCrafter, run.py and depthcrafter/utils.py (vis_sequence_depth).
    """
    from hoirt import _core

    if normalise not in ("disparity", "depth"):
        raise InputError(f'normalise must be "disparity" or "depth", not {normalise!r}')
    bounds = [_number(value, name) for value, name in ((low, "low"), (high, "high"))]
    z, one = _with_frames(depth, 2)
    picture = _core.coloured_depth(
        z, inferno(), low=bounds[0], high=bounds[1], disparity=normalise == "disparity", threads=threads
    )
    return _without_frames(picture, one)


def pam_segmentation(
    instances: ArrayLike,
    classes: Sequence[Literal["hand"] | int],
    dataset: Literal["dexycb", "oakink2"] = "dexycb",
    *,
    threads: int = 0,
) -> NDArray[np.uint8]:
    """PAM's segmentation, RGB uint8 (N, H, W, 3), of instances int32 (N, H, W), -1 where nothing is seen.

    `classes[i]` is what instance i is: "hand", or the object's number in the data set: 1..21 (YCB) for
    "dexycb", 2..120 for "oakink2" (the labels of its object_id.json). Both hands of OakInk2 have one
    colour.
    "dexycb" takes the ADE20K colour of the object's own number, and for the hand that of number 149;
    "oakink2" takes 20 + label, the hand having label 1. The background is black. The clip that PAM ships
    for DexYCB shows these colours times two modulo 256, an artefact.
    Source: PAM, training/hoi_utils.py and gen_hand_seg_oakink2.py.
    """
    from hoirt import _core

    ids, one = _with_frames(instances, 2)
    return _without_frames(
        _core.coloured_instances(ids, segmentation_colours(classes, dataset), threads=threads), one
    )


def segmentation_colours(
    classes: Sequence[Literal["hand"] | int], dataset: Literal["dexycb", "oakink2"] = "dexycb"
) -> NDArray[np.uint8]:
    """The colours of pam_segmentation: the background's, then those of `classes`; uint8 (1 + classes, 3)."""
    if dataset not in ("dexycb", "oakink2"):
        raise InputError(f'dataset must be "dexycb" or "oakink2", not {dataset!r}')
    if isinstance(classes, str) or not isinstance(classes, Sequence):
        raise InputError('classes must be a list with "hand" or an object\'s number for every instance')
    rows = [_ADE_BACKGROUND, *(_ade_row(entry, dataset) for entry in classes)]
    return ade20k()[rows]


def normals_picture(
    normals: ArrayLike, *, axes: Literal["opencv", "opengl"] = "opencv", threads: int = 0
) -> NDArray[np.uint8]:
    """Unit normals float32 (N, H, W, 3) as RGB uint8: red x, green y, blue z, each round(255 (n + 1) / 2).

    "opencv" keeps the camera's axes: x right, y down, z away, so a surface that faces the camera is (128,
    128, 0). "opengl" turns y and z round, as normal maps usually are: it is (128, 128, 255). Where nothing
    is seen the normal is the zero vector and the picture black.
    """
    from hoirt import _core

    if axes not in ("opencv", "opengl"):
        raise InputError(f'axes must be "opencv" or "opengl", not {axes!r}')
    vectors, one = _with_frames(normals, 3)
    return _without_frames(_core.coloured_normals(vectors, flip=axes == "opengl", threads=threads), one)


def _ade_row(entry: object, dataset: str) -> int:
    """The row of the ADE20K table for one class."""
    if isinstance(entry, str) and entry == "hand":
        return _ADE_HAND if dataset == "dexycb" else _OAKINK_SHIFT + 1
    objects = range(1, _YCB_OBJECTS + 1) if dataset == "dexycb" else _OAKINK_OBJECTS
    # A bool is an int in Python, but True is no object's number.
    if isinstance(entry, bool | np.bool_) or not isinstance(entry, int | np.integer) or entry not in objects:
        wanted = f'"hand" or an object\'s number in {objects[0]}..{objects[-1]}'
        raise InputError(f'a class of "{dataset}" must be {wanted}, not {entry!r}')
    return int(entry) + (_OAKINK_SHIFT if dataset == "oakink2" else 0)


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise InputError(f"{name} must be a number, not {type(value).__name__}")
    return float(value)


def _with_frames(array: Any, single: int) -> tuple[Any, bool]:
    """The array with the leading axis N, and whether it came without, having `single` axes."""
    one = getattr(array, "ndim", None) == single
    return (array[None] if one else array), one


def _without_frames(picture: NDArray[np.uint8], one: bool) -> NDArray[np.uint8]:
    return picture[0] if one else picture
