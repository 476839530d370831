"""Rendered: what hoirt.render gives back, and the pictures that condition networks made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import InputError
from hoirt.render.arrays import CUDA_DEVICES, axis_arrays, device_of, into_library, library_of

Category: TypeAlias = Literal["hand"] | int | None
STYLES = {
    "handrefiner": ("depth", "segmentation"),
    "pam-depth": ("depth",),
    "pam-segmentation": ("segmentation",),
    "keypoints": ("keypoints",),
    "openpose": ("keypoints",),
    "normals": ("normals",),
    "silhouette": ("silhouette",),
}


@dataclass(frozen=True, eq=False)
class Rendered:
    """The maps of a clip of N frames; those that were not asked for are None.

    Attributes:
        size: (H, W).
        frames: N.
        depth: (N, H, W) float32 metres along z, 0 where empty.
        segmentation: (N, H, W) int32 instance id of the nearest mesh, -1 where empty.
        parts: (N, H, W) int32 part number of the nearest face within its mesh, -1 where empty.
        keypoints: (N, K, 21, 2) float32 pixels (x, y) of the joints of the K meshes that have joints; NaN
            behind the camera; joint 0 is the wrist.
        keypoint_depth: (N, K, 21) float32 metres along z of the same joints.
        normals: (N, H, W, 3) float32 unit face normals in camera space, turned to the camera, 0 where empty.
        silhouette: (N, H, W) bool, true where anything is.
        faces: (N, H, W) int32 index into the faces of all meshes in a row, -1 where empty.
        barycentrics: (N, H, W, 3) float32 weights of the face's vertices, perspective-correct; 0 where empty.
        categories: what each instance id of the scene is: "hand", an object's number, or None: unknown.
        hands: the instance ids of hands; of those with joints, in the order of `keypoints`, first.
    """

    size: tuple[int, int]
    frames: int
    depth: Any = field(default=None, repr=False)
    segmentation: Any = field(default=None, repr=False)
    parts: Any = field(default=None, repr=False)
    keypoints: Any = field(default=None, repr=False)
    keypoint_depth: Any = field(default=None, repr=False)
    normals: Any = field(default=None, repr=False)
    silhouette: Any = field(default=None, repr=False)
    faces: Any = field(default=None, repr=False)
    barycentrics: Any = field(default=None, repr=False)
    categories: Mapping[int, Category] = field(default_factory=dict)
    hands: tuple[int, ...] = ()

    def picture(self, style: str, **options: Any) -> Any:
        """The frames as 8-bit pictures.

        Args:
            style: "handrefiner": (N, H, W) depth of the hands (all meshes if none is a hand), 255 near .. 51
                far, each hand by itself; "pam-depth": (N, H, W, 3) inferno colours over the clip;
                "pam-segmentation": (N, H, W, 3) by category; "keypoints": (N, H, W, 3) PAM's hand drawing;
                "openpose": (N, H, W, 3) ControlNet's hand drawing; "normals": (N, H, W, 3);
                "silhouette": (N, H, W), 255 where anything is.
            options: of the encoder: hand_depth, pam_depth, pam_segmentation, normals_picture in
                `hoirt.render.encode`, draw_hand in `hoirt.render.draw`. "keypoints" and "pam-segmentation"
                take dataset="dexycb" or "oakink2".

        Returns:
            uint8, of the same array library as the maps.

        Raises:
            InputError: unknown style; the maps that it needs were not rendered; maps on another device.
        """
        if style not in STYLES:
            raise InputError(f"style {style!r} is unknown; known are {', '.join(STYLES)}")
        needed = STYLES[style]
        missing = [mode for mode in needed if getattr(self, mode) is None]
        if missing:
            raise InputError(
                f"the style {style!r} needs {' and '.join(missing)}; render with modes={(*needed,)!r}"
            )
        first = getattr(self, needed[0])
        if device_of(first) in CUDA_DEVICES:
            raise InputError("pictures are made on the CPU; render CPU arrays, or encode the maps yourself")
        pictures = getattr(self, "_" + style.replace("-", "_"))(**options)
        return into_library(pictures, library_of(first))

    def _map(self, name: str) -> NDArray[Any]:
        return np.asarray(axis_arrays(getattr(self, name), name))

    def _places(self) -> NDArray[np.int32]:
        """The segmentation with each id's place among the sorted ids, as the encoders count them."""
        instances, ids = self._map("segmentation"), sorted(self.categories)
        if ids == list(range(len(ids))):
            return instances
        places = np.searchsorted(np.array(ids, np.int32), instances)
        return np.where(instances < 0, np.int32(-1), places.astype(np.int32))

    def _handrefiner(self, **options: Any) -> NDArray[np.uint8]:
        from hoirt.render.encode import hand_depth

        depth, instances = self._map("depth"), self._places()
        if self.hands:
            ids = sorted(self.categories)
            is_hand = np.isin(instances, [ids.index(number) for number in self.hands])
            depth, instances = (
                np.where(is_hand, depth, np.float32(0)),
                np.where(is_hand, instances, np.int32(-1)),
            )
        return hand_depth(depth, instances, **options)

    def _pam_depth(self, **options: Any) -> NDArray[np.uint8]:
        from hoirt.render.encode import pam_depth

        return pam_depth(self._map("depth"), **options)

    def _pam_segmentation(self, **options: Any) -> NDArray[np.uint8]:
        from hoirt.render.encode import pam_segmentation

        ids = sorted(self.categories)
        classes = [category for number in ids if (category := self.categories[number]) is not None]
        if len(classes) < len(ids):
            unknown = [number for number in ids if self.categories[number] is None]
            raise InputError(
                f'what instance {unknown[0]} is was not said; give hoirt.Mesh(..., category="hand" or the '
                "object's number)"
            )
        return pam_segmentation(self._places(), classes, **options)

    def _keypoints(self, *, dataset: str = "dexycb", **options: Any) -> NDArray[np.uint8]:
        return self._drawn(dataset, **options)

    def _openpose(self, **options: Any) -> NDArray[np.uint8]:
        return self._drawn("openpose", **options)

    def _drawn(self, style: Any, *, use_depth: bool = True, **options: Any) -> NDArray[np.uint8]:
        """Each hand drawn over the ones before."""
        from hoirt.render.draw import draw_hand

        joints, depth = self._map("keypoints"), self._map("keypoint_depth")
        if joints.shape[1] == 0:
            raise InputError("no mesh has joints to draw; give hoirt.Mesh(..., joints=...)")
        canvas = np.zeros((self.frames, *self.size, 3), np.uint8)
        for hand in range(joints.shape[1]):
            # A joint behind the camera is a missing one, which the drawings write as -1.
            flat = np.nan_to_num(joints[:, hand], nan=-1.0)
            order = depth[:, hand] if use_depth and style != "openpose" else None
            canvas = draw_hand(flat, style=style, depth=order, below=canvas, **options)
        return canvas

    def _normals(self, **options: Any) -> NDArray[np.uint8]:
        from hoirt.render.encode import normals_picture

        return normals_picture(self._map("normals"), **options)

    def _silhouette(self) -> NDArray[np.uint8]:
        return np.where(self._map("silhouette") != 0, np.uint8(255), np.uint8(0))
