"""Which hands a picture holds: found by the detector, or told by the caller as boxes, keypoints or hands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import InputError
from hoirt.hands.detect import INPUT_SIZE, Detection, detect
from hoirt.hands.hand import Hand
from hoirt.hands.mesh import MeshEstimator
from hoirt.hands.window import Box, Window, to_network
from hoirt.pipeline.timings import Stopwatch

if TYPE_CHECKING:
    from hoirt._core import Network

_KEYPOINT_MARGIN = 1.23  # side of the hand box over that of the keypoints' bounding box
_MOST = 64


class HandFinder:
    """Detector and mesh network of a pack. Safe to share between threads."""

    def __init__(self, detector: Network | None, mesh: MeshEstimator | None, threshold: float) -> None:
        """A pack may lack these networks; then a call that needs one is an InputError."""
        self._detector = detector
        self._mesh = mesh
        self._threshold = threshold

    def __call__(
        self, pixels: NDArray[np.uint8], told: Any, watch: Stopwatch, threshold: float | None = None
    ) -> list[Hand]:
        """The hands of an RGB uint8 picture (H, W, 3), in the detector's or the caller's order."""
        with watch("detect"):
            if told is None:
                lowest = self._threshold if threshold is None else threshold
                entries: list[Hand | Detection] = [*detect(self._need_detector(), pixels, lowest)]
            else:
                entries = self._told(pixels, told)
        with watch("mesh"):
            boxes = [entry for entry in entries if isinstance(entry, Detection)]
            meshes = iter(self._need_mesh()(pixels, boxes) if boxes else [])
            return [entry if isinstance(entry, Hand) else next(meshes) for entry in entries]

    def again(self, pixels: NDArray[np.uint8], hands: list[Hand]) -> list[Hand]:
        """The hands of another picture of the same scene, meshed in the crops of `hands`."""
        boxes = [Detection(hand.box, hand.score, hand.side) for hand in hands]
        return self._need_mesh()(pixels, boxes)

    def _told(self, pixels: NDArray[np.uint8], told: Any) -> list[Hand | Detection]:
        size = (pixels.shape[0], pixels.shape[1])
        entries = _entries(told)
        found: list[Hand | Detection] = []
        for index, entry in enumerate(entries):
            box = _box(entry.box if isinstance(entry, Hand) else entry, size, f"hands[{index}]")
            found.append(entry if isinstance(entry, Hand) else self._boxed(pixels, box))
        return found

    def _boxed(self, pixels: NDArray[np.uint8], box: Box) -> Detection:
        # Left or right is what the detector sees at its best cell in the box with as much again around it.
        around = Window.around(box, 2.0).look(pixels, (INPUT_SIZE, INPUT_SIZE))
        maps = self._need_detector().run({"image": to_network([around])})
        best = int(np.argmax(np.nan_to_num(maps["score"][0])))
        side = "left" if np.ravel(maps["left"][0])[best] > 0.5 else "right"
        return Detection(box, 1.0, "left" if side == "left" else "right")

    def _need_detector(self) -> Network:
        if self._detector is None:
            raise InputError(
                "this pack has no hand detector; pass hands=[Hand, ...], or depth= with hands=[]"
            )
        return self._detector

    def _need_mesh(self) -> MeshEstimator:
        if self._mesh is None:
            raise InputError("this pack has no mesh network; pass hands=[Hand, ...], or depth= with hands=[]")
        return self._mesh


def _entries(told: Any) -> list[Any]:
    if isinstance(told, Hand):
        raise InputError("hands must be a list; write hands=[hand]")
    if not isinstance(told, list | tuple | np.ndarray):
        raise InputError(
            "hands must be a list of boxes (x0, y0, x1, y1), of keypoints (21, 2), or of Hand objects, "
            f"not a {type(told).__name__}"
        )
    if len(told) > _MOST:
        raise InputError(f"hands has {len(told)} entries; at most {_MOST} are refined at once")
    return list(told)


def _box(entry: Any, size: tuple[int, int], name: str) -> Box:
    """A box inside the picture from a box or from keypoints, both in pixels."""
    try:
        values = np.asarray(entry, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape not in ((4,), (21, 2)):
        raise InputError(f"{name} must be a box (x0, y0, x1, y1), keypoints of shape (21, 2), or a Hand")
    if not np.isfinite(values).all():
        raise InputError(f"{name} holds NaN or infinity")
    if values.shape == (21, 2):
        values = _around_keypoints(values)
    height, width = size
    x0, x1 = np.clip(values[[0, 2]], 0, width).tolist()
    y0, y1 = np.clip(values[[1, 3]], 0, height).tolist()
    if x1 <= x0 or y1 <= y0:
        raise InputError(
            f"{name} = {tuple(np.round(values, 1).tolist())} is empty or outside the picture of "
            f"{width} x {height} pixels; give x0 < x1 and y0 < y1"
        )
    return x0, y0, x1, y1


def _around_keypoints(points: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = points.min(axis=0), points.max(axis=0)
    middle, half = (low + high) / 2, _KEYPOINT_MARGIN * (high - low).max() / 2
    return np.concatenate([middle - half, middle + half])
