"""load_motion(): recorded or simulated hands with objects, of several data sets, as one Motion."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hoirt.errors import InputError
from hoirt.hands.model import HandModel, PosedHand, batched
from hoirt.paths import path_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

FORMATS = ("graspxl", "dexycb", "oakink2")
_FARTHEST = 100.0  # metres; millimetres would be beyond


@dataclass(frozen=True, eq=False)
class MotionCamera:
    """The camera of a motion: OpenCV axes (x right, y down, z away).

    intrinsics (4,) float64: fx, fy, cx, cy in pixels; extrinsics (4, 4) or (T, 4, 4) float64, from the
    motion's coordinates to the camera's, metres; size (H, W) in pixels, None if the file does not tell.
    """

    intrinsics: NDArray[np.float64]
    extrinsics: NDArray[np.float64]
    size: tuple[int, int] | None


@dataclass(frozen=True, eq=False)
class Motion:
    """T frames of one MANO hand, and of objects.

    Attributes:
        format: the data set's name, one of FORMATS.
        side: "right" or "left".
        fps: frames per second.
        frames: (T,) int64, the file's numbers of the frames.
        pose: (T, 48) float32, the rotation of the wrist in axis-angle radians, then 45 numbers of the
            fingers: axis-angles, or coefficients of MANO's components if `components`; 0 is the flat hand if
            `flat_hand_mean`, else MANO's mean pose.
        translation: (T, 3) float32 metres: where `origin` says.
        shape: (10,) float32 MANO's shape parameters, or None if the files at hand do not tell.
        origin: "mano": the translation is added to MANO's vertices; "wrist": it is where the wrist joint
            lies. The two differ by the wrist's place in the template, about 0.1 m.
        valid: (T,) bool, False where there is no hand in the frame; its pose is 0 there.
        objects: poses (T, 4, 4) float64 by the object's name, object to the hand's coordinates, metres; NaN
            where an object was not tracked.
        camera: the camera that was asked for, or None.
    """

    format: str
    side: str
    fps: float
    frames: NDArray[np.int64] = field(repr=False)
    pose: NDArray[np.float32] = field(repr=False)
    translation: NDArray[np.float32] = field(repr=False)
    shape: NDArray[np.float32] | None = field(repr=False)
    flat_hand_mean: bool
    components: bool
    origin: str
    valid: NDArray[np.bool_] = field(repr=False)
    objects: Mapping[str, NDArray[np.float64]] = field(repr=False)
    camera: MotionCamera | None = field(repr=False, default=None)

    def __post_init__(self) -> None:
        for name, values in (("pose", self.pose), ("translation", self.translation)):
            if not np.isfinite(values).all():
                raise InputError(f"the {name} of the motion holds NaN or infinity")
        if len(self.translation) and np.abs(self.translation).max() > _FARTHEST:
            reach = np.abs(self.translation).max()
            raise InputError(f"the translation of the motion reaches {reach:.4g} m; is it in millimetres?")

    def __len__(self) -> int:
        return len(self.pose)

    @property
    def mano_options(self) -> dict[str, Any]:
        """The options under which `load_mano` gives the model that this motion's numbers are meant for."""
        return {
            "side": self.side,
            "flat_hand_mean": self.flat_hand_mean,
            "pca": 45 if self.components else None,
        }

    def posed(self, model: HandModel, shape: ArrayLike | None = None, *, threads: int = 0) -> PosedHand:
        """The hand of every frame, in the motion's coordinates.

        Args:
            model: `load_mano(folder, **motion.mano_options)`.
            shape: (10,) shape parameters instead of the motion's; needed if that has none.
            threads: as in HandModel.

        Raises:
            InputError: the model is of the other side, or takes other pose numbers than the motion's; no
            shape.
        """
        wanted = (self.side, self.flat_hand_mean, 45 if self.components else 0)
        basis = 0 if model.pose_basis is None else len(model.pose_basis)
        found = (model.side, model.pose_mean is None, basis)
        if wanted != found:
            options = ", ".join(f"{name}={value!r}" for name, value in self.mano_options.items())
            raise InputError(f"this motion needs the model of load_mano(path, {options})")
        betas = self.shape if shape is None else batched(shape, 10, "shape")
        if betas is None:
            raise InputError("the motion tells no shape: give `shape`, (10,), zeros for MANO's mean hand")
        hand = model(self.pose, betas, threads=threads)
        offset = self.translation[:, None]
        if self.origin == "wrist":
            offset = offset - hand.joints[:, :1]
        return PosedHand(hand.vertices + offset, hand.joints + offset, hand.keypoints + offset)


def load_motion(
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    side: str | None = None,
    camera: str | None = None,
) -> Motion:
    """Reads the motion of a hand with objects. Files are read as data; nothing in them is run.

    Args:
        path: a GraspXL .npy; a DexYCB folder of one camera with labels_*.npz, or one of these files; an
            OakInk2 annotation .pkl.
        format: "graspxl", "dexycb" or "oakink2"; None takes it from the path.
        side: "right" or "left", for files of two hands (OakInk2, where None means right); for others a check.
        camera: the camera of an OakInk2 file, by its name; only frames with it are read then. DexYCB's is the
            folder's.

    Raises:
        InputError: unknown format, or a missing, damaged, hostile or differently organised file.
    """
    from hoirt.hands import motion_dexycb, motion_graspxl, motion_oakink2

    readers: dict[str, Callable[..., Motion]] = {
        "graspxl": motion_graspxl.read,
        "dexycb": motion_dexycb.read,
        "oakink2": motion_oakink2.read,
    }
    where = path_of(path)
    if format is None:
        format = "dexycb" if where.is_dir() else _BY_SUFFIX.get(where.suffix.lower())
    if format not in readers:
        known = ", ".join(map(repr, FORMATS))
        raise InputError(f"{where}: the format must be one of {known}, not {format!r}")
    if side not in (None, "right", "left"):
        raise InputError(f"side must be 'right' or 'left', not {side!r}")
    if camera is not None and format != "oakink2":
        raise InputError(f"camera is for OakInk2 files; a {format} motion has no choice of cameras")
    motion = readers[format](where, side, camera)
    if side is not None and motion.side != side:
        raise InputError(f"{where} is of a {motion.side} hand, not of a {side} one")
    return motion


_BY_SUFFIX = {".npy": "graspxl", ".npz": "dexycb", ".pkl": "oakink2"}
