"""joint_occlusion(): which joints the camera sees, which the hand itself hides, which an object hides."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import InputError
from hoirt.imaging.arrays import as_numpy
from hoirt.render import arrays
from hoirt.render.clip import render
from hoirt.render.mesh import Mesh, as_meshes
from hoirt.render.view import View

# How far a joint may lie under its own skin, in metres: wrist, thumb, then four fingers, root to tip.
# Measured on hoirt's hand, within 40 degrees of the palm's and the back's normal; a finger in front of a
# finger is further away.
JOINT_MARGINS = (0.04, 0.04, 0.03, 0.025, 0.025, *(0.025, 0.015, 0.015, 0.012) * 4)
VISIBLE, SELF_OCCLUDED, OBJECT_OCCLUDED, OUTSIDE = range(4)
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Occlusion:
    """What hides the 21 joints of K hands over N frames; all arrays are (N, K, 21).

    Attributes:
        state: uint8; 0 visible, 1 hidden by the hand itself, 2 hidden by an object (also if by both), 3
            outside of the picture or behind the camera.
        by_self, by_object: bool, each rule by itself.
        hands: the instance ids of the K hands.
    """

    state: NDArray[np.uint8]
    by_self: Bools = field(repr=False)
    by_object: Bools = field(repr=False)
    hands: tuple[int, ...] = ()

    @property
    def visible(self) -> Bools:
        """(N, K, 21) bool: the joints that a pose prior may keep fixed."""
        return np.asarray(self.state == VISIBLE)


def joint_occlusion(
    meshes: Any,
    camera: Any,
    size: tuple[int, int] | None = None,
    *,
    margin: Any = None,
    object_rule: Literal["depth", "mask"] = "depth",
    object_mask: Any = None,
    threads: int = 0,
) -> Occlusion:
    """Tells for every joint of every hand whether the camera sees it.

    A joint lies inside the flesh, so its own skin is always nearer. It counts as hidden by the hand itself if
    the hand's nearest surface at the joint's pixel lies more than `margin` before the joint. It counts as
    hidden by an object if at its pixel the nearest of all meshes is not its hand.

    Args:
        meshes, camera, size: as in `hoirt.render`; the hands are the meshes with joints, any other mesh,
            another hand too, is an object.
        margin: metres >= 0, one number or (21,); None: JOINT_MARGINS, for a hand of an adult's size.
        object_rule: "depth": the object must also be nearer than the joint; "mask": its being seen there is
            enough, as with a mask from a segmentation network.
        object_mask: (N, H, W) or (H, W), true where an object is seen; takes the place of the meshes'
            objects.
        threads: CPU threads; 0: all cores.

    Raises:
        InputError: no mesh has joints; wrong margin, rule or mask; and what `hoirt.render` raises.
    """
    given = as_meshes(meshes)
    view = View.of(camera, size)
    hands = [index for index, mesh in enumerate(given) if mesh.joints is not None]
    if not hands:
        raise InputError("no mesh has joints; give hoirt.Mesh(..., joints=...) or a hoirt.Hand")
    reach = as_numpy(JOINT_MARGINS if margin is None else margin, "margin")
    if reach.dtype.kind not in "iuf" or reach.shape not in ((), (21,)) or not (reach >= 0).all():
        raise InputError(f"margin must be metres >= 0, one number or (21,), not {margin!r}")
    if not np.isfinite(reach).all():
        raise InputError("margin must be finite")
    if object_rule not in ("depth", "mask"):
        raise InputError(f'object_rule must be "depth" or "mask", not {object_rule!r}')
    numbered = [replace(mesh, instance=index) for index, mesh in enumerate(given)]
    scene = render(numbered, view, modes=("depth", "segmentation", "keypoints"), threads=threads)
    assert view.size is not None and scene.keypoints is not None
    mask = None if object_mask is None else _mask(object_mask, scene.frames, view.size)
    pixels, joint_depth = arrays.on_cpu(scene.keypoints), arrays.on_cpu(scene.keypoint_depth)
    depth, instances = arrays.on_cpu(scene.depth), arrays.on_cpu(scene.segmentation)
    inside, rows, columns = _places(pixels, view.size)
    frame = np.arange(scene.frames)[:, None]
    by_self, by_object = np.zeros(inside.shape, bool), np.zeros(inside.shape, bool)
    for slot, index in enumerate(hands):
        at = (frame, rows[:, slot], columns[:, slot])
        own = _own_depth(numbered[index], view, scene.frames, threads)[at]
        by_self[:, slot] = (own > 0) & (own < joint_depth[:, slot] - reach)
        if mask is not None:
            by_object[:, slot] = mask[at]
            continue
        by_object[:, slot] = (instances[at] >= 0) & (instances[at] != index)
        if object_rule == "depth":
            by_object[:, slot] &= depth[at] < joint_depth[:, slot]
    by_self &= inside
    by_object &= inside
    state = np.where(by_object, OBJECT_OCCLUDED, np.where(by_self, SELF_OCCLUDED, VISIBLE))
    return Occlusion(
        np.where(inside, state, OUTSIDE).astype(np.uint8),
        by_self,
        by_object,
        tuple(int(given[index].instance or 0) for index in hands),
    )


def _own_depth(hand: Mesh, view: View, frames: int, threads: int) -> NDArray[np.float32]:
    """Depth (frames, H, W) of the hand alone."""
    depth = arrays.on_cpu(render(hand, view, modes="depth", threads=threads).depth)
    return np.broadcast_to(depth, (frames, *depth.shape[1:]))


def _places(
    pixels: NDArray[np.float32], size: tuple[int, int]
) -> tuple[Bools, NDArray[np.intp], NDArray[np.intp]]:
    """Whether each joint lies in the picture, and its row and column (0 where not)."""
    with np.errstate(invalid="ignore"):
        inside = np.asarray(((pixels >= 0) & (pixels < [size[1], size[0]])).all(axis=-1))
    whole = np.floor(np.where(inside[..., None], pixels, 0)).astype(np.intp)
    return inside, whole[..., 1], whole[..., 0]


def _mask(values: Any, frames: int, size: tuple[int, int]) -> Bools:
    array = as_numpy(values, "object_mask")
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.shape[1:] != size or array.shape[0] not in (1, frames):
        raise InputError(f"object_mask must be ({frames}, {size[0]}, {size[1]}), not {array.shape}")
    if array.dtype.kind not in "biu":
        raise InputError(f"object_mask must be bool or integers, not {array.dtype}")
    return np.broadcast_to(array != 0, (frames, *size))
