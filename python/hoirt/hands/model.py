"""HandModel: a parametric hand with MANO's interface: 48 pose and 10 shape parameters, 16 joints."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hoirt import _core
from hoirt.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float32]
    Ints = NDArray[np.int32]

_OWN_HAND = Path(__file__).with_name("hand.safetensors")


@dataclass(frozen=True)
class PosedHand:
    """Hands in pose: vertices (B, V, 3), joints (B, 16, 3) and keypoints (B, 21, 3), float32 metres."""

    vertices: Floats
    joints: Floats
    keypoints: Floats


@dataclass(frozen=True)
class HandModel:
    """Constants of a hand: a template that is shaped linearly and posed by linear blend skinning.

    template (V, 3) and shape_directions (V, 3, 10) in metres; weights (V, 16); joint_regressor (16, V) in
    MANO's joint order; keypoint_regressor (21, V): wrist, thumb, index, middle, ring, pinky; faces (F, 3)
    seen from outside counter-clockwise; parents (16,); flexion_axes and abduction_axes (16, 3) unit vectors.
    """

    template: Floats
    faces: Ints
    weights: Floats
    shape_directions: Floats
    joint_regressor: Floats
    keypoint_regressor: Floats
    parents: Ints
    flexion_axes: Floats
    abduction_axes: Floats
    side: str = "right"

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
        """The other hand: z negated, faces turned so that they still look outwards."""
        flip = np.array([1.0, 1.0, -1.0], np.float32)
        return HandModel(
            template=self.template * flip,
            faces=np.ascontiguousarray(self.faces[:, ::-1]),
            weights=self.weights,
            shape_directions=self.shape_directions * flip[:, None],
            joint_regressor=self.joint_regressor,
            keypoint_regressor=self.keypoint_regressor,
            parents=self.parents,
            # A mirrored rotation keeps its angle when its axis, a pseudo-vector, is mirrored and negated.
            flexion_axes=-self.flexion_axes * flip,
            abduction_axes=-self.abduction_axes * flip,
            side="left" if self.side == "right" else "right",
        )

    def shaped(self, shape: ArrayLike) -> Floats:
        """Rest vertices (B, V, 3) in metres for shape parameters (B, 10)."""
        betas = _batched(shape, 10, "shape")
        offsets: Floats = np.einsum("vck,bk->bvc", self.shape_directions, betas).astype(np.float32)
        return self.template + offsets

    def __call__(self, pose: ArrayLike, shape: ArrayLike | None = None) -> PosedHand:
        """Poses hands.

        Args:
            pose: (B, 48) or (48,) axis-angle radians of the 16 joints relative to their parents; 0 is flat.
            shape: (B, 10) or (10,) shape parameters in standard deviations, about; None is the mean hand.

        Raises:
            InputError: wrong shape or non-finite values.
        """
        angles = _batched(pose, 48, "pose")
        betas = np.zeros((len(angles), 10), np.float32) if shape is None else _batched(shape, 10, "shape")
        if len(betas) != len(angles):
            raise InputError(f"pose holds {len(angles)} hands but shape holds {len(betas)}")
        return self.posed(rotation_matrices(angles.reshape(-1, 16, 3)), betas)

    def posed(self, rotations: Floats, betas: Floats) -> PosedHand:
        """Poses hands from rotation matrices (B, 16, 3, 3) and shape parameters (B, 10)."""
        rest = self.shaped(betas)
        joints = np.einsum("jv,bvc->bjc", self.joint_regressor, rest)
        vertices, posed_joints = _core.skin(rest, joints, rotations, self.weights, self.parents)
        # The keypoints are the posed joints, and the tip vertices, which the regressor holds as one-hot rows.
        keypoints = np.einsum("kv,bvc->bkc", self.keypoint_regressor, vertices).astype(np.float32)
        order = np.array([0, 13, 14, 15, 1, 2, 3, 4, 5, 6, 10, 11, 12, 7, 8, 9])
        joint_slots = np.array([0, 1, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15, 17, 18, 19])
        keypoints[:, joint_slots] = posed_joints[:, order]
        return PosedHand(vertices, posed_joints, keypoints)


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


def _batched(values: ArrayLike, width: int, name: str) -> Floats:
    try:
        array = np.asarray(values, np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be numbers of shape (B, {width}): {error}") from error
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or array.shape[1] != width:
        raise InputError(f"{name} must have shape (B, {width}) or ({width},), not {np.shape(values)}")
    if not np.isfinite(array).all():
        raise InputError(f"{name} holds NaN or infinity")
    return array
