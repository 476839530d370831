"""HandModel: a parametric hand with MANO's interface: 48 pose and 10 shape parameters, 16 joints."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hoirt import _core
from hoirt.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float32]
    Ints = NDArray[np.int32]

# MANO's 16 joints in the order of the 21 keypoints, and where those stand; the rest are the finger tips.
JOINT_ORDER = (0, 13, 14, 15, 1, 2, 3, 4, 5, 6, 10, 11, 12, 7, 8, 9)
JOINT_KEYPOINTS = (0, 1, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15, 17, 18, 19)
TIP_KEYPOINTS = (4, 8, 12, 16, 20)

_OWN_HAND = Path(__file__).with_name("hand.safetensors")


@dataclass(frozen=True)
class PosedHand:
    """Hands in pose: vertices (B, V, 3), joints (B, 16, 3) and keypoints (B, 21, 3), float32 metres."""

    vertices: Floats
    joints: Floats
    keypoints: Floats


@dataclass(frozen=True, eq=False)
class HandModel:
    """Constants of a hand: a template that is shaped linearly and posed by linear blend skinning.

    template (V, 3) and shape_directions (V, 3, 10) in metres; weights (V, 16); joint_regressor (16, V) in
    MANO's joint order; keypoint_regressor (21, V): wrist, thumb, index, middle, ring, pinky, the tips as
    one-hot rows; faces (F, 3) seen from outside counter-clockwise; parents (16,); flexion_axes and
    abduction_axes (16, 3) unit vectors, None where they are not known; side "right" or "left".

    A model of MANO (`hoirt.load_mano`) also has pose_directions (V, 3, 135), the correction per entry of the
    rotations of joints 1 to 15 less the identity; pose_mean (45,) radians, added to every pose, or None; and
    pose_basis (n, 45), by which the fingers' pose is n coefficients, or None for axis-angles. The other hand
    is the mirror image along `mirror_axis`.
    """

    template: Floats
    faces: Ints
    weights: Floats
    shape_directions: Floats
    joint_regressor: Floats
    keypoint_regressor: Floats
    parents: Ints
    flexion_axes: Floats | None = None
    abduction_axes: Floats | None = None
    side: str = "right"
    pose_directions: Floats | None = None
    pose_mean: Floats | None = None
    pose_basis: Floats | None = None
    mirror_axis: int = 2

    @staticmethod
    @lru_cache(maxsize=2)
    def load(side: str = "right") -> HandModel:
        """hoirt's own procedural hand (Apache-2.0), right or left; the left one is its mirror image."""
        from safetensors.numpy import load_file

        if side not in ("right", "left"):
            raise InputError(f"side must be 'right' or 'left', not {side!r}")
        arrays: dict[str, Any] = load_file(_OWN_HAND)
        right = HandModel(**arrays)
        return right if side == "right" else right.mirrored()

    def mirrored(self) -> HandModel:
        """The other hand: `mirror_axis` negated, faces turned so that they still look outwards.

        The same pose coefficients give the mirrored pose; axis-angles are mirrored by `mirrored_pose`.
        """
        flip = np.ones(3, np.float32)
        flip[self.mirror_axis] = -1.0
        turn = (
            -flip
        )  # a mirrored rotation keeps its angle when its axis, a pseudo-vector, is mirrored and negated
        fingers = np.tile(turn, 15)
        directions = self.pose_directions
        if directions is not None:
            # An entry of a mirrored rotation changes its sign where exactly one of its axes is flipped.
            directions = directions * flip[:, None] * np.tile(np.outer(flip, flip).ravel(), 15)
        return replace(
            self,
            template=self.template * flip,
            faces=np.ascontiguousarray(self.faces[:, ::-1]),
            shape_directions=self.shape_directions * flip[:, None],
            flexion_axes=None if self.flexion_axes is None else self.flexion_axes * turn,
            abduction_axes=None if self.abduction_axes is None else self.abduction_axes * turn,
            side="left" if self.side == "right" else "right",
            pose_directions=directions,
            pose_mean=None if self.pose_mean is None else self.pose_mean * fingers,
            pose_basis=None if self.pose_basis is None else self.pose_basis * fingers,
        )

    @property
    def pose_size(self) -> int:
        """Numbers in one pose: 48, or 3 and the number of coefficients of `pose_basis`."""
        return 48 if self.pose_basis is None else 3 + len(self.pose_basis)

    def axis_angles(self, pose: ArrayLike) -> Floats:
        """The rotations (B, 48) in axis-angle radians that poses (B, pose_size) stand for."""
        values = batched(pose, self.pose_size, "pose")
        if self.pose_basis is not None:
            values = np.concatenate([values[:, :3], values[:, 3:] @ self.pose_basis], axis=1)
        if self.pose_mean is not None:
            values = values + np.concatenate([np.zeros(3, np.float32), self.pose_mean])
        return values

    def shaped(self, shape: ArrayLike) -> Floats:
        """Rest vertices (B, V, 3) in metres for shape parameters (B, 10)."""
        betas = batched(shape, 10, "shape")
        offsets: Floats = np.einsum("vck,bk->bvc", self.shape_directions, betas).astype(np.float32)
        return self.template + offsets

    def __call__(
        self,
        pose: ArrayLike,
        shape: ArrayLike | None = None,
        translation: ArrayLike | None = None,
        *,
        threads: int = 0,
    ) -> PosedHand:
        """Poses hands.

        Args:
            pose: (B, 48) or (48,) axis-angle radians of the 16 joints relative to their parents; 0 is flat,
                or the mean pose if the model has one. (B, 3 + n) if the model has a `pose_basis`. The first
                rotation turns about the wrist joint, not about the origin.
            shape: (B, 10) or (10,) shape parameters in standard deviations, about; None is the mean hand. One
                shape serves all poses.
            translation: (B, 3) or (3,) metres, added at the end.
            threads: 0 takes all cores; the result does not depend on it.

        Raises:
            InputError: wrong shape or non-finite values.
        """
        angles = self.axis_angles(pose)
        betas = np.zeros((1, 10), np.float32) if shape is None else batched(shape, 10, "shape")
        offset = None if translation is None else batched(translation, 3, "translation")
        for name, values in (("shape", betas), ("translation", offset)):
            if values is not None and len(values) not in (1, len(angles)):
                raise InputError(f"pose holds {len(angles)} hands but {name} holds {len(values)}")
        posed = self.posed(rotation_matrices(angles.reshape(-1, 16, 3)), betas, threads=threads)
        if offset is None:
            return posed
        return PosedHand(
            *(part + offset[:, None] for part in (posed.vertices, posed.joints, posed.keypoints))
        )

    def posed(self, rotations: Floats, betas: Floats, *, threads: int = 0) -> PosedHand:
        """Poses hands from rotation matrices (B, 16, 3, 3) and shape parameters (B, 10) or (1, 10)."""
        vertices, joints = _core.pose_body(
            self.template, *self._constants, self.weights, self.parents, rotations, betas, threads=threads
        )
        keypoints = np.empty((len(vertices), 21, 3), np.float32)
        keypoints[:, JOINT_KEYPOINTS] = joints[:, JOINT_ORDER]
        keypoints[:, TIP_KEYPOINTS] = vertices[:, self.keypoint_regressor[list(TIP_KEYPOINTS)].argmax(axis=1)]
        return PosedHand(vertices, joints, keypoints)

    @cached_property
    def _constants(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Directions of shape (10, V, 3) and pose (P, V, 3), mean joints (16, 3) and their directions."""
        pose = self.pose_directions
        if pose is None:
            pose = np.empty((*self.template.shape, 0), np.float32)
        regressor = self.joint_regressor.astype(np.float64)
        return (
            np.ascontiguousarray(np.moveaxis(self.shape_directions, 2, 0)),
            np.ascontiguousarray(np.moveaxis(pose, 2, 0)),
            (regressor @ self.template).astype(np.float32),
            np.einsum("jv,vck->kjc", regressor, self.shape_directions).astype(np.float32),
        )


def mirrored_pose(pose: ArrayLike, axis: int = 0) -> Floats:
    """The pose (..., 48) of the other hand, mirrored along `axis`: for MANO's x, all y and z are negated."""
    values = np.asarray(pose)
    if values.dtype.kind not in "fiu" or values.ndim < 1 or values.shape[-1] != 48 or axis not in (0, 1, 2):
        raise InputError(
            f"pose must hold numbers of shape (..., 48), axis be 0, 1 or 2, not {values.shape}, {axis}"
        )
    signs = -np.ones(3, np.float32)
    signs[axis] = 1.0
    return (values * np.tile(signs, 16)).astype(np.float32)


def rotation_matrices(axis_angles: ArrayLike) -> Floats:
    """Rodrigues' formula: (..., 3) axis-angle radians to (..., 3, 3) rotation matrices."""
    vectors = np.asarray(axis_angles, np.float64)
    angle = np.linalg.norm(vectors, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(vectors, -1, 0)
    zero = np.zeros_like(x)
    skew = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*vectors.shape, 3)
    # sin(a)/a and (1 - cos(a))/a^2 through sinc, exact at zero.
    first = np.sinc(angle / np.pi)
    second = 0.5 * np.sinc(angle / (2.0 * np.pi)) ** 2
    return np.asarray(np.eye(3) + first * skew + second * (skew @ skew), np.float32)


def batched(values: ArrayLike, width: int, name: str) -> Floats:
    """float32 (B, width) from finite numbers (B, width) or (width,). Raises InputError with `name`."""
    try:
        given = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be numbers of shape (B, {width}): {error}") from error
    if given.dtype.kind not in "fiu":
        raise InputError(f"{name} must be numbers of shape (B, {width}), not {given.dtype}")
    with np.errstate(over="ignore"):
        array = given.astype(np.float32)
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or array.shape[1] != width:
        raise InputError(f"{name} must have shape (B, {width}) or ({width},), not {np.shape(values)}")
    if not np.isfinite(array).all():
        raise InputError(f"{name} holds NaN or infinity")
    return array
