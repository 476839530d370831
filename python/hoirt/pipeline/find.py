"""Which hands a picture holds: what the caller tells, else what the detector finds; with meshes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import InputError
from hoirt.hands.agreement import MALFORMED_FROM, better_side, malformed
from hoirt.hands.detect import Detection, Detector, MapDetector
from hoirt.hands.hand import Hand
from hoirt.hands.mesh import MeshEstimator
from hoirt.hands.tiles import Tiles, search
from hoirt.hands.told import Place, pick, read_told
from hoirt.pipeline.timings import Stopwatch

if TYPE_CHECKING:
    from hoirt._core import Network

_UNKNOWN = 0.5  # probability of a left hand where nothing tells


class HandFinder:
    """Detector and mesh network of a pack. Safe to share between threads."""

    def __init__(
        self,
        detector: Network | None,
        mesh: MeshEstimator | None,
        threshold: float,
        *,
        landmarker: Detector | None = None,
    ) -> None:
        """A pack may lack these networks; then a call that needs one is an InputError.

        `landmarker` (hoirt.hands.landmarker.Landmarker) finds the hands in place of the pack's detector.
        """
        self._detector: Detector | None = landmarker
        if landmarker is None and detector is not None:
            self._detector = MapDetector(detector, threshold)
        self._mesh = mesh

    def __call__(
        self,
        pixels: NDArray[np.uint8],
        told: Any,
        watch: Stopwatch,
        threshold: float | None = None,
        tiles: Tiles = "auto",
        released: bool = False,
    ) -> list[Hand]:
        """The hands of an RGB uint8 picture (H, W, 3), in the detector's or the caller's order.

        Args:
            told: as in `hoirt.hands.told.read_told`.
            threshold: lowest confidence 0..1 of a detected hand; None takes the detector's own.
            tiles: as in `hoirt.hands.tiles.search`.
            released: fit the meshes as the released HandRefiner does: its crop, the detector's word for the
                side.
        """
        if not isinstance(tiles, bool) and tiles != "auto":
            raise InputError(f'tiles must be "auto", True or False, not {tiles!r:.80}')
        wanted = read_told(told, (pixels.shape[0], pixels.shape[1]))
        with watch("detect"):
            detected: list[Detection] = []
            if isinstance(wanted, str) or any(isinstance(entry, int) for entry in wanted):
                detector = self._need_detector()
                lowest = detector.threshold if threshold is None else threshold
                detected = search(detector, pixels, lowest, False if released else tiles)
            entries: list[Detection | Hand] = []
            for entry in detected if isinstance(wanted, str) else wanted:
                if isinstance(entry, int):
                    entries.append(pick(detected, entry))
                elif isinstance(entry, Place):
                    entries.append(self._placed(pixels, entry))
                else:
                    entries.append(entry)
        with watch("mesh"):
            fit = self._released if released else self._fitted
            hands = [entry if isinstance(entry, Hand) else fit(pixels, entry) for entry in entries]
        return _malformed_only(hands) if wanted == "malformed" else hands

    def again(self, pixels: NDArray[np.uint8], hands: list[Hand], *, released: bool = False) -> list[Hand]:
        """The hands of another picture of the same scene, meshed in the crops and with the sides of
        `hands`.
        """
        mesh = self._need_mesh()
        seen = [
            Detection(
                hand.box,
                hand.score,
                hand.side,
                keypoints=None if hand.landmarks is None else hand.landmarks[:, :2],
            )
            for hand in hands
        ]
        return [mesh.released(pixels, one) for one in seen] if released else mesh(pixels, seen)

    def _released(self, pixels: NDArray[np.uint8], found: Detection) -> Hand:
        mesh = self._need_mesh()
        hand = mesh.released(pixels, found)
        return _with_landmarks(replace(hand, malformed=malformed(hand, found, mesh.box_scale)), found)

    def _placed(self, pixels: NDArray[np.uint8], place: Place) -> Detection:
        """A told hand with what the detector sees of it."""
        if self._detector is None:
            return Detection(place.box, 1.0, "right", _UNKNOWN, place.keypoints)
        seen = self._detector.look_at(pixels, place.box)
        return seen if place.keypoints is None else replace(seen, keypoints=place.keypoints)

    def _fitted(self, pixels: NDArray[np.uint8], found: Detection) -> Hand:
        mesh = self._need_mesh()

        def fit(detection: Detection) -> Hand:
            return mesh(pixels, [detection])[0]

        hand = better_side(fit, found, mesh.box_scale)
        return _with_landmarks(replace(hand, malformed=malformed(hand, found, mesh.box_scale)), found)

    def _need_detector(self) -> Detector:
        if self._detector is None:
            raise InputError(
                "this pack has no hand detector; tell where the hands are: hands=[(x0, y0, x1, y1), ...], "
                "or pass depth= with hands=[]"
            )
        return self._detector

    def _need_mesh(self) -> MeshEstimator:
        if self._mesh is None:
            raise InputError("this pack has no mesh network; pass hands=[Hand, ...], or depth= with hands=[]")
        return self._mesh


def _with_landmarks(hand: Hand, found: Detection) -> Hand:
    if found.keypoints is None or found.z is None:
        return hand
    return replace(hand, landmarks=np.column_stack([found.keypoints, found.z]).astype(np.float32))


def _malformed_only(hands: list[Hand]) -> list[Hand]:
    if any(hand.malformed is None for hand in hands):
        raise InputError(
            'hands="malformed" needs a mesh network with a `region` output, or a landmarker, to judge by; '
            "this pack has neither. Choose by index: hands=[0, 2] takes these of detect()'s hands"
        )
    return [hand for hand in hands if hand.malformed is not None and hand.malformed > MALFORMED_FROM]
