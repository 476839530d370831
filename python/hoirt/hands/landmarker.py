"""mediapipe's HandLandmarker as hand detector: the user's `.task` file, with `hoirt[mediapipe]`."""

from __future__ import annotations

import io
import os
import stat
import threading
import warnings
import weakref
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import BackendError, InputError
from hoirt.hands.detect import MAX_HANDS, Detection, iou, side_of
from hoirt.hands.tiles import shifted
from hoirt.hands.told import around_keypoints
from hoirt.hands.window import Box, Window
from hoirt.paths import path_of

_MEMBERS = ("hand_detector.tflite", "hand_landmarks_detector.tflite")
_LARGEST = 256 << 20  # bytes; the published bundle has about 8 MB
_LITERAL_SINCE = (
    0,
    10,
    5,
)  # mediapipe, from which "Left" means the person's left hand in an unmirrored picture
_AROUND = 2.5  # side of the square that is searched for a told hand, in sides of its box
_SAME = 0.2  # intersection over union from which a find in it is the told hand
_OPEN = 4  # landmarkers kept, one per threshold


class Landmarker:
    """Finds hands and their 21 keypoints with mediapipe. Safe to share between threads, which take turns.

    The settings are those of HandRefiner: single images, 0.6 for detection and presence; but any number of
    hands.
    """

    input_size = 192  # of the palm detector
    threshold = 0.6

    def __init__(self, path: str | os.PathLike[str], *, mirrored: bool | None = None) -> None:
        """Reads the bundle; nothing in it is executed but its networks, by mediapipe.

        Args:
            path: a `hand_landmarker.task`.
            mirrored: whether the labels Left and Right mean the sides of a mirrored (selfie) picture. None
                asks the version: before 0.10.5 they did.

        Raises:
            InputError: the file is missing or no such bundle.
            BackendError: mediapipe is not installed or cannot be loaded or refuses the bundle.
        """
        self._bundle = _read(path_of(path, "the hand landmarker"))
        self._mediapipe = _import()
        old = _version(self._mediapipe) < _LITERAL_SINCE
        self._mirrored = old if mirrored is None else mirrored
        self._lock = threading.Lock()
        self._open: dict[float, Any] = {}
        # Before the interpreter takes its modules apart, which mediapipe's own clean-up does not survive.
        weakref.finalize(self, _close, self._open)
        with self._lock:
            self._opened(self.threshold)

    def __call__(self, picture: NDArray[np.uint8], threshold: float | None = None) -> list[Detection]:
        """Hands of an RGB uint8 picture (H, W, 3), surest side first, at most 64, each with keypoints and z.

        `threshold` is mediapipe's minimum confidence of detection and of presence, 0..1; None is 0.6.
        mediapipe does not tell these confidences themselves, so `score` is that of the side, 0.5..1.
        """
        height, width = picture.shape[:2]
        image = self._mediapipe.Image(
            image_format=self._mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(picture)
        )
        with self._lock:
            result = self._opened(self.threshold if threshold is None else threshold).detect(image)
        found = [
            self._detection(points, labels[0], width, height)
            for points, labels in zip(result.hand_landmarks, result.handedness, strict=True)
        ]
        return sorted(found, key=lambda hand: -hand.score)

    def look_at(self, picture: NDArray[np.uint8], box: Box) -> Detection:
        """The told hand in `box` with its keypoints, where mediapipe sees one there; its box stays."""
        rows, columns = Window.around(box, _AROUND).clipped((picture.shape[0], picture.shape[1]))
        around = np.ascontiguousarray(picture[rows, columns])
        found = [shifted(hand, columns.start, rows.start) for hand in self(around)] if around.size else []
        best = max(found, key=lambda hand: iou(hand.box, box), default=None)
        if best is None or iou(best.box, box) < _SAME:
            return Detection(box, 1.0, "right", 0.5)
        return replace(best, box=box, score=1.0)

    def _detection(self, points: Any, label: Any, width: int, height: int) -> Detection:
        keypoints = np.array([(point.x * width, point.y * height) for point in points], np.float32)
        score = min(max(float(label.score), 0.0), 1.0)
        says_left = (label.category_name == "Left") != self._mirrored
        left = score if says_left else 1.0 - score
        z = np.array([point.z * width for point in points], np.float32)
        return Detection(around_keypoints(keypoints), score, side_of(left), left, keypoints, z)

    def _opened(self, threshold: float) -> Any:
        """The landmarker of a threshold, made at its first use."""
        if threshold not in self._open:
            tasks = self._mediapipe.tasks
            options = tasks.vision.HandLandmarkerOptions(
                # As bytes: mediapipe cannot open every path that the system can.
                base_options=tasks.BaseOptions(model_asset_buffer=self._bundle),
                num_hands=MAX_HANDS,
                min_hand_detection_confidence=threshold,
                min_hand_presence_confidence=threshold,
                min_tracking_confidence=threshold,
            )
            try:
                opened = tasks.vision.HandLandmarker.create_from_options(options)
            except Exception as error:
                raise BackendError(f"mediapipe cannot open the hand landmarker: {error}") from error
            while len(self._open) >= _OPEN:
                self._open.pop(next(iter(self._open))).close()
            self._open[threshold] = opened
        return self._open[threshold]


def _close(opened: dict[float, Any]) -> None:
    while opened:
        opened.popitem()[1].close()


class PackLandmarker:
    """The landmarker of a pack, opened when a hand is first looked for: told hands need no mediapipe."""

    input_size = Landmarker.input_size
    threshold = Landmarker.threshold

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._landmarker: Landmarker | None = None

    def __call__(self, picture: NDArray[np.uint8], threshold: float | None = None) -> list[Detection]:
        """As in Landmarker."""
        return self._opened()(picture, threshold)

    def look_at(self, picture: NDArray[np.uint8], box: Box) -> Detection:
        """As in Landmarker; where mediapipe is missing the side is not known, and a warning says so."""
        try:
            landmarker = self._opened()
        except BackendError as error:
            warnings.warn(f"the side of a told hand is not known, right is assumed: {error}", stacklevel=2)
            return Detection(box, 1.0, "right", 0.5)
        return landmarker.look_at(picture, box)

    def _opened(self) -> Landmarker:
        with self._lock:
            if self._landmarker is None:
                self._landmarker = Landmarker(self._path)
            return self._landmarker


def _read(path: Path) -> bytes:
    """The bundle, checked to be a zip that holds the two networks uncompressed, as mediapipe needs them."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path} is not a file; give a hand_landmarker.task")
        if status.st_size > _LARGEST:
            raise InputError(f"{path} has {status.st_size} bytes; a hand_landmarker.task has about 8 million")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the hand landmarker {path}: {error.strerror or error}") from None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as bundle:
            members = {info.filename: info for info in bundle.infolist()}
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise InputError(f"{path} is no hand_landmarker.task, which is a zip: {error}") from None
    missing = [name for name in _MEMBERS if name not in members]
    if missing:
        raise InputError(f"{path} is no hand_landmarker.task: it lacks {' and '.join(missing)}")
    packed = [name for name in _MEMBERS if members[name].compress_type != zipfile.ZIP_STORED]
    if packed:
        raise InputError(f"{path}: {packed[0]} is compressed; mediapipe needs it stored")
    return data


def _import() -> Any:
    """mediapipe, imported at its first use only: it has no wheel for some Pythons and pins protobuf."""
    try:
        import mediapipe
        from mediapipe import tasks
        from mediapipe.tasks.python import vision
    except Exception as error:  # besides ImportError, a protobuf that does not fit raises what it likes
        raise BackendError(
            f"a hand landmarker needs mediapipe, which cannot be imported: {type(error).__name__}: {error}. "
            "Install hoirt[mediapipe] (on a Python for which mediapipe has a wheel), or tell where the hands "
            "are with hands=[(x0, y0, x1, y1), ...], which needs no detector"
        ) from error
    assert vision and tasks
    return mediapipe


def _version(mediapipe: Any) -> tuple[int, ...]:
    parts = str(getattr(mediapipe, "__version__", "0")).split(".")[:3]
    return tuple(int("".join(c for c in part if c.isdigit()) or 0) for part in parts)
