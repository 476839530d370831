"""From hand boxes to metric meshes: crops, the mesh network, its weak camera made a pinhole."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import BackendError
from hoirt.hands.detect import Detection
from hoirt.hands.hand import Camera, Hand, project
from hoirt.hands.released import CROP, released_crop
from hoirt.hands.window import Window, to_network

if TYPE_CHECKING:
    from hoirt._core import Network

_FOCAL = 1000.0 / 224.0  # focal length of a crop in units of its side (HandRefiner)
_SCALE_RANGE = (0.1, 20.0)  # beyond it no hand fills a crop; keeps the camera in front of the mesh


class MeshEstimator:
    """The pack's `mesh` network with the constants of its hand model. Safe to share between threads."""

    def __init__(
        self,
        network: Network,
        *,
        faces: NDArray[np.int32],
        joint_regressor: NDArray[np.float32],
        input_size: int,
        box_scale: float,
    ) -> None:
        """`faces` (F, 3): a right hand's, outward; `joint_regressor` (21, V); `input_size`: a crop's side."""
        self._network = network
        self._faces = {"right": faces, "left": np.ascontiguousarray(faces[:, ::-1])}
        self._regressor = joint_regressor
        self._input_size = input_size
        self.box_scale = box_scale

    def __call__(self, picture: NDArray[np.uint8], detections: list[Detection]) -> list[Hand]:
        """One Hand per detection; `picture` is RGB uint8 (H, W, 3)."""
        return [self._fit(picture, found) for found in detections]

    def released(self, picture: NDArray[np.uint8], found: Detection) -> Hand:
        """The Hand as the released HandRefiner fits it, in the crop of the landmarks that were seen.

        Its box is that crop over `box_scale`, so that a region map covers what it says. Without landmarks, or
        with a network of another input than MeshGraphormer's, it is the usual fit.
        """
        if found.keypoints is None or self._input_size != CROP:
            return self._fit(picture, found)
        size = picture.shape[:2]
        crop = released_crop(found.keypoints.astype(np.float64) / size[::-1], size)
        window = Window(crop.left, crop.top, crop.side, crop.side)
        x, y, half = crop.left + crop.side / 2, crop.top + crop.side / 2, crop.side / self.box_scale / 2
        found = replace(found, box=(x - half, y - half, x + half, y + half))
        return self._estimate(found, window, crop.look(picture, mirrored=found.side == "left"))

    def _fit(self, picture: NDArray[np.uint8], found: Detection) -> Hand:
        window = Window.around(found.box, self.box_scale)
        crop = window.look(picture, (self._input_size, self._input_size))
        if found.side == "left":  # the network knows right hands only
            crop = crop[:, ::-1]
        return self._estimate(found, window, crop)

    def _estimate(self, found: Detection, window: Window, crop: NDArray[np.uint8]) -> Hand:
        # One hand at a time: in a larger batch a matrix product may round otherwise, and a hand shall not
        # depend on its neighbours.
        outputs = self._network.run({"image": to_network([crop])})
        for name, values in outputs.items():
            if not np.isfinite(values).all():
                raise BackendError(f"the mesh network returned NaN or infinity in its output {name!r}")
        region = outputs["region"][0] if "region" in outputs else None
        return self._hand(found, window, outputs["vertices"][0], outputs["camera"][0], region)

    def _hand(
        self,
        found: Detection,
        window: Window,
        vertices: NDArray[np.float32],
        weak_camera: NDArray[np.float32],
        region: NDArray[np.float32] | None,
    ) -> Hand:
        translation, camera = pinhole(weak_camera, window)
        joints = self._regressor @ vertices + translation
        vertices = vertices + translation
        if found.side == "left":  # mirroring camera space at x = 0 mirrors the crop at its centre
            flip = np.array([-1, 1, 1], np.float32)
            joints, vertices = joints * flip, vertices * flip
            region = None if region is None else region[:, ::-1]
        return Hand(
            box=found.box,
            score=found.score,
            side=found.side,
            keypoints=project(joints, camera),
            joints=joints,
            vertices=vertices,
            faces=self._faces[found.side],
            camera=camera,
            region=region,
        )


def pinhole(weak_camera: NDArray[np.float32], window: Window) -> tuple[NDArray[np.float32], Camera]:
    """The translation (3,) in metres and the camera of the picture for the network's (s, tx, ty) in a square
    crop.

    HandRefiner's camera: f = 1000 L / 224 pixels, principal point at the middle of the crop of side L, and
    P_cam = P + (tx, ty, 2 f / (L s)).
    """
    scale, tx, ty = (float(value) for value in weak_camera)
    side = window.width
    depth = 2.0 * _FOCAL / float(np.clip(scale, *_SCALE_RANGE))
    focal = _FOCAL * side
    camera = Camera(focal, focal, window.left + side / 2, window.top + side / 2)
    return np.array([tx, ty, depth], np.float32), camera
