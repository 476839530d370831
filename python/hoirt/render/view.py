"""View: the pinhole camera or cameras of a clip, from whatever the caller has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import InputError
from hoirt.imaging.arrays import as_numpy
from hoirt.imaging.picture import MAX_SIDE

Floats = NDArray[np.float64]
_ROTATION_TOLERANCE = 1e-3  # calibration files round their matrices


@dataclass(frozen=True, eq=False)
class View:
    """Pinhole cameras, one for all frames or one per frame; OpenCV axes (x right, y down, z away).

    Args:
        intrinsics: (4,) or (N, 4) fx, fy, cx, cy in pixels, or (3, 3) or (N, 3, 3) matrices K without skew.
            The point at column j + 0.5, row i + 0.5 is the centre of pixel (i, j).
        extrinsics: world to camera, (4, 4), (3, 4), (N, 4, 4) or (N, 3, 4), rigid, metres; None: the world is
            the camera's.
        size: (H, W) of the picture in pixels, sides 1..8192; None: to be said where it is used.

    After construction: `intrinsics` (N or 1, 4) float64, `extrinsics` None or (N or 1, 4, 4) float64.

    Raises:
        InputError: wrong shape, NaN, a focal length that is not positive, skew, a matrix that is not rigid.
    """

    intrinsics: Any
    extrinsics: Any = None
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "intrinsics", _intrinsics(self.intrinsics))
        if self.extrinsics is not None:
            set_field(self, "extrinsics", _extrinsics(self.extrinsics))
        if self.size is not None:
            set_field(self, "size", checked_size(self.size))
        lengths = {len(self.intrinsics), 1 if self.extrinsics is None else len(self.extrinsics)} - {1}
        if len(lengths) > 1:
            raise InputError(
                f"the camera has {len(self.intrinsics)} intrinsics but {len(self.extrinsics)} extrinsics; "
                "give one for all frames or one per frame"
            )

    @classmethod
    def of(cls, camera: Any, size: Any = None) -> View:
        """`camera` as a View: a View, a `hoirt.Camera`, or intrinsics as above; `size` wins over its own."""
        if isinstance(camera, View):
            return camera if size is None else cls(camera.intrinsics, camera.extrinsics, size)
        return cls(camera, None, size)

    @classmethod
    def weak_perspective(cls, parameters: Any, side: int, *, focal: float = 1000.0, crop: int = 224) -> View:
        """The camera that HandRefiner gives a hand's mesh from its weak-perspective parameters.

        Args:
            parameters: (3,) or (N, 3) scale > 0 and translation tx, ty of the mesh network, for a square
                crop.
            side: of the crop in pixels, which becomes the picture.
            focal: focal length in pixels of a crop of `crop` pixels; both default to HandRefiner's.

        Source: HandRefiner (Lu et al. 2023): f = focal * side / crop, principal point at the crop's middle,
        the mesh moved by (tx, ty, 2 f / (side * scale + 1e-9)).
        """
        rows = _numbers(parameters, "weak-perspective parameters")
        if rows.ndim not in (1, 2) or rows.shape[-1] != 3 or rows.size == 0:
            raise InputError(f"weak-perspective parameters must be (3,) or (N, 3), not {rows.shape}")
        rows = rows.reshape(-1, 3)
        if (rows[:, 0] <= 0).any():
            raise InputError("the weak-perspective scale must be positive")
        height, width = checked_size((side, side))
        length = focal * width / crop
        extrinsics = np.tile(np.eye(4), (len(rows), 1, 1))
        extrinsics[:, :2, 3] = rows[:, 1:]
        extrinsics[:, 2, 3] = 2.0 * length / (width * rows[:, 0] + 1e-9)
        return cls((length, length, width / 2, height / 2), extrinsics, (height, width))

    @classmethod
    def around(
        cls,
        points: Any,
        size: tuple[int, int],
        *,
        towards: Any = (0.0, 0.0, -1.0),
        up: Any = (0.0, 1.0, 0.0),
        angle: float = 40.0,
        fill: float = 0.9,
    ) -> View:
        """A camera that looks at the middle of `points` (..., 3) and sees them all.

        Args:
            size: (H, W).
            towards: the direction (3,) in which it looks.
            up: the direction (3,) that is up in the picture; not along `towards`.
            angle: the field of view of the shorter side in degrees, 1..150.
            fill: the share of the shorter side that the bounding sphere takes, 0..1.
        """
        cloud = _numbers(points, "points")
        if cloud.shape[-1:] != (3,) or cloud.size == 0:
            raise InputError(f"points must be (..., 3), not {cloud.shape}")
        if not 1.0 <= angle <= 150.0 or not 0.0 < fill <= 1.0:
            raise InputError(f"angle must be 1..150 and fill within 0..1, not {angle:g} and {fill:g}")
        height, width = checked_size(size)
        low, high = cloud.reshape(-1, 3).min(axis=0), cloud.reshape(-1, 3).max(axis=0)
        radius = max(float(np.linalg.norm(high - low)) / 2, 1e-6)
        half = np.deg2rad(angle) / 2
        distance = radius / np.sin(np.arctan(fill * np.tan(half)))
        focal = min(height, width) / 2 / np.tan(half)
        extrinsics = np.eye(4)
        extrinsics[:3, :3] = _looking(towards, up)
        extrinsics[:3, 3] = extrinsics[:3, :3] @ -((low + high) / 2) + [0, 0, distance]
        return cls((focal, focal, width / 2, height / 2), extrinsics, (height, width))

    @property
    def frames(self) -> int:
        """How many frames the camera moves over; 1 if it stands still."""
        return max(len(self.intrinsics), 1 if self.extrinsics is None else len(self.extrinsics))

    @property
    def matrices(self) -> Floats:
        """K, (N or 1, 3, 3) float64."""
        matrices = np.zeros((len(self.intrinsics), 3, 3))
        matrices[:, 0, 0], matrices[:, 1, 1], matrices[:, 0, 2], matrices[:, 1, 2] = self.intrinsics.T
        matrices[:, 2, 2] = 1.0
        return matrices

    def part(self, start: int, stop: int) -> View:
        """The view of the frames start .. stop; what stands still is kept as it is."""
        extrinsics = self.extrinsics
        if extrinsics is not None and len(extrinsics) > 1:
            extrinsics = extrinsics[start:stop]
        moving = len(self.intrinsics) > 1
        return View(self.intrinsics[start:stop] if moving else self.intrinsics, extrinsics, self.size)

    def to_camera(self, points: Any) -> Floats:
        """World `points` (N or 1, P, 3) in camera space, (frames, P, 3) float64."""
        cloud = _numbers(points, "points")
        if cloud.ndim != 3 or cloud.shape[2] != 3:
            raise InputError(f"points must be (N, P, 3), not {cloud.shape}")
        if self.extrinsics is not None:
            rotation, offset = self.extrinsics[:, :3, :3], self.extrinsics[:, None, :3, 3]
            cloud = cloud @ rotation.transpose(0, 2, 1) + offset
        return cloud

    def project(self, points: Any) -> tuple[Floats, Floats]:
        """Pixels (frames, P, 2) and depth in metres (frames, P) of world `points` (N or 1, P, 3).

        Points that are not in front of the camera (depth <= 0) have NaN pixels.
        """
        cloud = self.to_camera(points)
        depth = cloud[..., 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            flat = cloud[..., :2] / np.where(depth > 0, depth, np.nan)[..., None]
        pixels = flat * self.intrinsics[:, None, :2] + self.intrinsics[:, None, 2:]
        return pixels, np.broadcast_to(depth, pixels.shape[:2])


def checked_size(size: Any) -> tuple[int, int]:
    """(H, W) as ints. InputError unless both are whole numbers 1..8192."""
    try:
        height, width = size
        if not (height == int(height) and width == int(width)):
            raise ValueError
        height, width = int(height), int(width)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"size must be (height, width) in whole pixels, not {size!r}") from None
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise InputError(f"size is {height}x{width}; each side must be 1..{MAX_SIDE}")
    return height, width


def _numbers(values: Any, what: str) -> Floats:
    array = as_numpy(values, what)
    if array.dtype.kind not in "iuf":
        raise InputError(f"{what} must be numbers, not {array.dtype}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise InputError(f"{what} must not hold NaN or infinity")
    return array


def _looking(towards: Any, up: Any) -> Floats:
    """The rotation (3, 3) from the world to a camera that looks `towards`: its rows are right, down, away."""
    away, above = _numbers(towards, "towards"), _numbers(up, "up")
    if away.shape != (3,) or above.shape != (3,):
        raise InputError(f"towards and up must be (3,), not {away.shape} and {above.shape}")
    right = np.cross(away, above)
    if np.linalg.norm(right) <= 1e-9 * np.linalg.norm(away) * np.linalg.norm(above):
        raise InputError("towards and up must not be zero nor on one line")
    down = np.cross(away, right)
    return np.stack([vector / np.linalg.norm(vector) for vector in (right, down, away)])


def _intrinsics(values: Any) -> Floats:
    array = _numbers(values, "the camera's intrinsics")
    if array.shape[-2:] == (3, 3) and array.ndim in (2, 3) and array.size:
        array = array.reshape(-1, 3, 3)
        if array[:, 0, 1].any() or array[:, 1, 0].any() or (array[:, 2] != [0, 0, 1]).any():
            raise InputError("the matrix K must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], without skew")
        rows = np.stack([array[:, 0, 0], array[:, 1, 1], array[:, 0, 2], array[:, 1, 2]], axis=1)
    elif array.shape[-1:] == (4,) and array.ndim in (1, 2) and array.size:
        rows = array.reshape(-1, 4)
    else:
        raise InputError(
            f"the camera's intrinsics must be fx, fy, cx, cy as (4,) or (N, 4), or K as (3, 3) or (N, 3, 3), "
            f"not {array.shape}"
        )
    if (rows[:, :2] <= 0).any():
        raise InputError(f"focal lengths must be positive, not {rows[:, :2].min():g}")
    return rows


def _extrinsics(values: Any) -> Floats:
    array = _numbers(values, "the camera's extrinsics")
    if array.ndim not in (2, 3) or array.shape[-2:] not in ((3, 4), (4, 4)) or array.size == 0:
        raise InputError(
            f"the camera's extrinsics must be (4, 4), (3, 4), (N, 4, 4) or (N, 3, 4), not {array.shape}"
        )
    array = array.reshape(-1, *array.shape[-2:])
    if array.shape[1] == 4 and (array[:, 3] != [0, 0, 0, 1]).any():
        raise InputError("the last row of the camera's extrinsics must be 0 0 0 1")
    matrices = np.tile(np.eye(4), (len(array), 1, 1))
    matrices[:, :3] = array[:, :3]
    rotation = matrices[:, :3, :3]
    product = rotation @ rotation.transpose(0, 2, 1)
    if np.abs(product - np.eye(3)).max() > _ROTATION_TOLERANCE or (np.linalg.det(rotation) < 0).any():
        raise InputError(
            "the camera's extrinsics must be rigid: a rotation (no scale, no mirror) and a translation"
        )
    return matrices
