"""mediapipe's HandLandmarker behind our interface.

Most tests run against a small imitation of the documented result types, so that they need no mediapipe. With
mediapipe installed and HOIRT_TEST_HAND_TASK naming a hand_landmarker.task, the last ones run the real thing.
"""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import hoirt
import numpy as np
import pytest
from blobs import scene
from hoirt.hands.landmarker import Landmarker, PackLandmarker
from hoirt.hands.mesh import MeshEstimator
from hoirt.hands.released import released_crop
from hoirt.hands.tiles import search
from hoirt.hands.window import Window
from hoirt.pipeline.find import HandFinder
from hoirt.pipeline.timings import Stopwatch

MEMBERS = ("hand_detector.tflite", "hand_landmarks_detector.tflite")


def bundle(path: Path, names: tuple[str, ...] = MEMBERS, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as task:
        for name in names:
            task.writestr(name, b"TFL3" * 50)
    return path


class Imitation:
    """Stands for the mediapipe module: "finds" the red blobs of `scene` as 21 points on a circle."""

    def __init__(self, version: str = "0.10.21", label: str = "Left", score: float = 0.97) -> None:
        self.opened: list[Any] = []
        self.closed = 0
        self.label, self.score = label, score
        self.modules = {
            name: ModuleType(name)
            for name in (
                "mediapipe",
                "mediapipe.tasks",
                "mediapipe.tasks.python",
                "mediapipe.tasks.python.vision",
            )
        }
        top = self.modules["mediapipe"]
        vision = SimpleNamespace(
            HandLandmarkerOptions=lambda **options: SimpleNamespace(**options),
            HandLandmarker=SimpleNamespace(create_from_options=self.create),
        )
        tasks: Any = self.modules["mediapipe.tasks"]
        tasks.vision, tasks.BaseOptions = vision, lambda **options: SimpleNamespace(**options)
        python: Any = self.modules["mediapipe.tasks.python"]
        python.vision = vision
        for name, value in {
            "__version__": version,
            "tasks": tasks,
            "Image": lambda image_format, data: (image_format, data),
            "ImageFormat": SimpleNamespace(SRGB="srgb"),
        }.items():
            setattr(top, name, value)

    def create(self, options: Any) -> Any:
        if options.base_options.model_asset_buffer.count(b"TFL3") < 2:
            raise RuntimeError("bad model")
        self.opened.append(options)
        return self

    def close(self) -> None:
        self.closed += 1

    def detect(self, image: tuple[str, np.ndarray]) -> Any:
        form, pixels = image
        assert form == "srgb" and pixels.flags.c_contiguous and pixels.dtype == np.uint8
        from scipy import ndimage

        height, width = pixels.shape[:2]
        marks, count = ndimage.label(pixels[..., 0].astype(int) - pixels[..., 1:].max(axis=2) > 100)
        hands = []
        for blob in ndimage.find_objects(marks)[:count]:
            turn = np.arange(21) / 21 * 2 * np.pi
            y, x = ((part.start + part.stop) / 2 for part in blob)
            radius = (blob[0].stop - blob[0].start) / 2
            hands.append(
                [
                    SimpleNamespace(
                        x=(x + radius * np.cos(t)) / width, y=(y + radius * np.sin(t)) / height, z=0.1 * k
                    )
                    for k, t in enumerate(turn)
                ]
            )
        label = SimpleNamespace(category_name=self.label, score=self.score)
        return SimpleNamespace(hand_landmarks=hands, handedness=[[label]] * len(hands))


@pytest.fixture
def imitate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[Landmarker, Imitation]]:
    def make(mirrored: bool | None = None, **options: Any) -> tuple[Landmarker, Imitation]:
        imitation = Imitation(**options)
        for name, module in imitation.modules.items():
            monkeypatch.setitem(sys.modules, name, module)
        return Landmarker(bundle(tmp_path / "hand.task"), mirrored=mirrored), imitation

    return make


def test_settings_are_the_released_ones_but_for_the_number(imitate: Any) -> None:
    landmarker, mediapipe = imitate()
    (options,) = mediapipe.opened
    assert options.num_hands == 64
    assert options.min_hand_detection_confidence == options.min_hand_presence_confidence == 0.6
    for threshold in (0.1, 0.2, 0.3, 0.2, 0.4, 0.5):
        landmarker(scene(), threshold)
    assert mediapipe.opened[1].min_hand_detection_confidence == 0.1
    assert len(mediapipe.opened) == 6 and mediapipe.closed == 2  # each made once; the oldest are closed


def test_finds_are_in_pixels(imitate: Any) -> None:
    landmarker, _ = imitate()
    hands = landmarker(scene(120, 160, hands=2))
    assert len(hands) == 2
    for hand, across in zip(sorted(hands, key=lambda h: h.box[0]), (0.28, 0.75), strict=True):
        assert hand.keypoints.shape == (21, 2) and hand.keypoints.dtype == np.float32
        assert np.allclose(hand.keypoints.mean(axis=0), (across * 160, 60), atol=1)
        assert np.allclose(hand.z, 0.1 * np.arange(21) * 160)
        x0, y0, x1, y1 = hand.box
        assert x1 - x0 == pytest.approx(y1 - y0) and x0 < hand.keypoints[:, 0].min() < x1
        assert hand.side == "left" and hand.left == hand.score == pytest.approx(0.97)


@pytest.mark.parametrize(
    ("version", "mirrored", "side"),
    [
        ("0.10.4", None, "right"),
        ("0.10.5", None, "left"),
        ("0.9.3.0", None, "right"),
        ("1.2.3", None, "left"),
        ("0.10.21", True, "right"),
        ("0.10.0", False, "left"),
    ],
)
def test_both_conventions_of_the_labels(imitate: Any, version: str, mirrored: bool | None, side: str) -> None:
    landmarker, _ = imitate(mirrored, version=version, label="Left")
    (hand,) = landmarker(scene())
    assert hand.side == side and hand.score == pytest.approx(0.97)
    assert hand.left == pytest.approx(0.97 if side == "left" else 0.03)


def test_told_hands_get_their_keypoints(imitate: Any) -> None:
    landmarker, _ = imitate()
    picture = scene(120, 160, hands=2)
    right = sorted(landmarker(picture), key=lambda h: h.box[0])[1]
    box = tuple(value + shift for value, shift in zip(right.box, (3, -2, 2, 3), strict=True))
    seen = landmarker.look_at(picture, box)
    assert seen.box == box and seen.score == 1.0 and seen.side == "left"
    assert np.allclose(seen.keypoints, right.keypoints, atol=1)
    nothing = landmarker.look_at(picture, (0.0, 0.0, 12.0, 12.0))
    assert nothing.keypoints is None and nothing.left == 0.5


def test_serves_the_finder_and_the_tiles(imitate: Any, refiner: hoirt.Refiner) -> None:
    landmarker, _ = imitate(label="Right", score=0.6)
    mesh = refiner._models.find._mesh
    find = HandFinder(None, mesh, 0.5, landmarker=landmarker)
    hands = find(scene(120, 160, hands=2), None, Stopwatch())
    assert len(hands) == 2 and all(hand.malformed is not None for hand in hands)
    big = np.zeros((700, 900, 3), np.uint8)
    big[500:620, 600:760] = scene(120, 160)
    (hand,) = search(landmarker, big, 0.6)
    assert np.allclose(hand.keypoints.mean(axis=0), (600 + 0.28 * 160, 560), atol=1)


class StillMesh:
    """A mesh network of MeshGraphormer's input: always the same hand, and what it was shown."""

    def __init__(self) -> None:
        self.crops: list[np.ndarray] = []

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.crops.append(inputs["image"][0])
        corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32) * np.float32(0.05)
        return {"vertices": corners[None], "camera": np.array([[6.0, 0.0, 0.0]], np.float32)}


def test_released_localisation(imitate: Any) -> None:
    """The label as it is, the released crop, and the landmarks kept."""
    landmarker, _ = imitate(label="Left", score=0.6)  # unsure: outside of faithful both sides are fitted
    network = StillMesh()
    mesh = MeshEstimator(
        network,  # type: ignore[arg-type]
        faces=np.array([[0, 2, 1], [0, 3, 2]], np.int32),
        joint_regressor=np.full((21, 4), 0.25, np.float32),
        input_size=224,
        box_scale=1.3,
    )
    picture = scene(120, 160, hands=2)
    hands = HandFinder(None, mesh, 0.5, landmarker=landmarker)(picture, None, Stopwatch(), released=True)
    assert len(hands) == 2 and len(network.crops) == 2
    for hand, shown in zip(hands, network.crops, strict=True):
        assert hand.side == "left" and hand.landmarks is not None and hand.landmarks.shape == (21, 3)
        crop = released_crop(hand.landmarks[:, :2] / [160, 120], (120, 160))
        seen = crop.look(picture, mirrored=True)
        np.testing.assert_allclose(shown, seen.transpose(2, 0, 1) / 255, atol=1e-6)
        assert (hand.camera.cx, hand.camera.cy) == (crop.left + crop.side / 2, crop.top + crop.side / 2)
        assert hand.camera.fx == pytest.approx(1000 * crop.side / 224)
        window = Window.around(hand.box, mesh.box_scale)
        assert (window.left, window.top, window.width) == (crop.left, crop.top, crop.side)
        assert hand.malformed is not None


def test_bad_bundles_are_refused(tmp_path: Path, imitate: Any) -> None:
    imitate()
    truncated = tmp_path / "cut.task"
    truncated.write_bytes(bundle(tmp_path / "whole.task").read_bytes()[:300])
    text = tmp_path / "text.task"
    text.write_text("a task")
    for path, message in (
        (tmp_path / "none.task", "cannot read"),
        (tmp_path, "not a file"),
        (truncated, "is a zip"),
        (text, "is a zip"),
        (bundle(tmp_path / "half.task", MEMBERS[:1]), "lacks hand_landmarks_detector"),
        (bundle(tmp_path / "packed.task", method=zipfile.ZIP_DEFLATED), "compressed"),
    ):
        with pytest.raises(hoirt.InputError, match=message):
            Landmarker(path)
    broken = tmp_path / "empty.task"
    with zipfile.ZipFile(broken, "w") as task:
        for name in MEMBERS:
            task.writestr(name, b"")
    with pytest.raises(hoirt.BackendError, match="bad model"):
        Landmarker(broken)


@pytest.mark.parametrize("failure", [ImportError("no wheel"), TypeError("Descriptors cannot be created")])
def test_missing_mediapipe_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    class Refuses:
        def find_spec(self, name: str, *_: Any) -> None:
            if name.split(".")[0] == "mediapipe":
                raise failure

    for name in [name for name in sys.modules if name.split(".")[0] == "mediapipe"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Refuses(), *sys.meta_path])
    with pytest.raises(hoirt.BackendError, match=r"hoirt\[mediapipe\].*hands="):
        Landmarker(bundle(tmp_path / "hand.task"))


def test_mediapipe_is_not_imported_unless_used() -> None:
    import subprocess

    code = "import sys, hoirt.hands.landmarker, hoirt.pipeline.find; assert 'mediapipe' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def real() -> Landmarker:
    task = os.environ.get("HOIRT_TEST_HAND_TASK")
    if not task:
        pytest.skip("HOIRT_TEST_HAND_TASK names no hand_landmarker.task")
    try:
        return Landmarker(task)
    except hoirt.BackendError as error:
        pytest.skip(str(error))


def test_real_mediapipe_on_synthetic_hands(real: Landmarker) -> None:
    from export.tiny.scenes import make_picture

    distances = []
    for seed in range(2_300_000, 2_300_006):
        picture = make_picture(seed, hands=1)
        (truth,) = picture.hands
        for hand in real(picture.image):
            assert hand.keypoints is not None and 0.5 <= hand.score <= 1
            size = truth.box[2] - truth.box[0]
            distances.append(np.linalg.norm(hand.keypoints - truth.keypoints, axis=1).mean() / size)
    assert len(distances) >= 4 and np.median(distances) < 0.1


def test_real_mediapipe_takes_any_size(real: Landmarker) -> None:
    for size in ((1, 1), (1, 700), (33, 2)):
        assert real(np.zeros((*size, 3), np.uint8)) == []
    assert real(np.zeros((50, 60, 4), np.uint8)[..., :3]) == []  # not contiguous


def test_landmarker_of_a_pack_waits_until_it_is_needed(
    tmp_path: Path, imitate: Any, refiner: hoirt.Refiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bundle(tmp_path / "hand_landmarker.task")
    mesh = refiner._models.find._mesh
    picture = scene(120, 160, hands=2)
    monkeypatch.setitem(sys.modules, "mediapipe", None)  # importing it fails
    find = HandFinder(None, mesh, 0.5, landmarker=PackLandmarker(path))
    with pytest.warns(UserWarning, match="side of a told hand is not known"):
        (told,) = find(picture, [(20, 30, 80, 90)], Stopwatch())
    assert told.score == 1.0
    with pytest.raises(hoirt.BackendError, match=r"hoirt\[mediapipe\]"):
        find(picture, None, Stopwatch())
    imitate()
    assert len(find(picture, None, Stopwatch())) == 2
