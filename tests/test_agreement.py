"""Mesh against what was seen: the evidence, the choice of the side, the malformed score."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hoirt.hands.agreement import UNSURE, better_side, evidence, keypoint_error, malformed
from hoirt.hands.detect import Detection
from hoirt.hands.hand import Camera, Hand, project
from hoirt.hands.render import metric_depth
from hoirt.hands.window import Window
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

SCALE = 1.3
CELLS = 128


def a_hand(x: float = 0.0) -> Hand:
    """A square plate of 8 cm, `x` metres right of the middle of a box of 100 pixels, facing the camera."""
    corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32) * np.float32(0.04)
    vertices = corners + np.array([x, 0, 0.5], np.float32)
    joints = np.repeat(vertices.mean(axis=0)[None], 21, axis=0)
    camera = Camera(400.0, 400.0, 50.0, 50.0)
    faces = np.array([[0, 2, 1], [0, 3, 2]], np.int32)
    box = (0.0, 0.0, 100.0, 100.0)
    return Hand(box, 1.0, "right", project(joints, camera), joints, vertices, faces, camera)


def silhouette(hand: Hand) -> np.ndarray:
    drawn = metric_depth(hand, Window.around(hand.box, SCALE), (CELLS, CELLS)) > 0
    assert 3000 < drawn.sum() < 5000
    return drawn


def test_a_region_equal_to_the_silhouette() -> None:
    hand = a_hand()
    seen = evidence(replace(hand, region=silhouette(hand).astype(np.float32)), SCALE)
    assert seen is not None
    assert seen.overlap == pytest.approx(1.0) and seen.outline == pytest.approx(1.0)
    assert seen.beyond == 0.0 and seen.doubt < 1e-3
    assert evidence(hand, SCALE) is None


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000))
def test_evidence_equals_its_definition(seed: int) -> None:
    """Erosion by SciPy, sums in float64."""
    rng = np.random.default_rng(seed)
    hand = a_hand(rng.uniform(-0.02, 0.02))
    noise = ndimage.gaussian_filter(rng.normal(size=(CELLS, CELLS)), 5)
    region = (1 / (1 + np.exp(-60 * noise - 3 * silhouette(hand) + 1.5))).astype(np.float32)
    seen = evidence(replace(hand, region=region), SCALE)
    assert seen is not None
    mesh, p = silhouette(hand), region.astype(np.float64)
    y, x = np.mgrid[-2:3, -2:3]
    beyond = np.pad((p > 0.5) & ~mesh, 3, constant_values=True)
    core = ndimage.binary_erosion(beyond, x * x + y * y <= 4)[3:-3, 3:-3]
    plus = ndimage.generate_binary_structure(2, 1)
    outlines = [(m & ~ndimage.binary_erosion(m, plus)).sum() for m in (p > 0.5, mesh)]
    entropy = -p * np.log(p + 1e-6) - (1 - p) * np.log(1 - p + 1e-6)
    assert seen.overlap == pytest.approx(np.minimum(p, mesh).sum() / np.maximum(p, mesh).sum(), rel=1e-4)
    assert seen.beyond == pytest.approx(np.sqrt(core.sum() / mesh.sum()), rel=1e-6)
    assert seen.outline == pytest.approx(outlines[0] / outlines[1])
    assert seen.doubt == pytest.approx(entropy.sum() / mesh.sum(), rel=1e-4)


def test_an_extra_finger_counts_and_a_thin_rim_does_not() -> None:
    hand = a_hand()
    found = Detection(hand.box, 1.0, "right")
    plain = silhouette(hand)
    rim = ndimage.binary_dilation(plain, iterations=2)
    finger = plain.copy()
    finger[4:40, 60:72] = True

    def score(region: np.ndarray) -> float:
        value = malformed(replace(hand, region=region.astype(np.float32)), found, SCALE)
        assert value is not None and 0 <= value <= 1
        return value

    assert evidence(replace(hand, region=rim.astype(np.float32)), SCALE).beyond == 0.0  # type: ignore[union-attr]
    assert score(finger) > score(rim) and score(finger) > score(plain)


def test_score_without_a_region() -> None:
    hand = a_hand()
    assert malformed(hand, Detection(hand.box, 1.0, "right"), SCALE) is None
    scores = []
    for shift in (0.0, 2.0, 10.0, 40.0):
        points = hand.keypoints + np.array([shift, 0], np.float32)
        assert keypoint_error(hand, points) == pytest.approx(shift / 100, abs=1e-6)
        scores.append(malformed(hand, Detection(hand.box, 1.0, "right", None, points), SCALE))
    assert scores == sorted(scores) and scores[0] < 0.1 and scores[-1] > 0.9  # type: ignore[operator,type-var]


@pytest.mark.parametrize("label", [0.3, 0.7])
@pytest.mark.parametrize("truth", ["left", "right"])
@pytest.mark.parametrize("by", ["region", "keypoints"])
def test_the_side_whose_mesh_agrees(label: float, truth: str, by: str) -> None:
    """A left hand's mesh lies at the left in these, a right hand's at the right."""
    seen = a_hand(-0.03 if truth == "left" else 0.03)
    fits: list[str] = []

    def fit(found: Detection) -> Hand:
        fits.append(found.side)
        hand = a_hand(-0.03 if found.side == "left" else 0.03)
        region = silhouette(seen).astype(np.float32) if by == "region" else None
        return replace(hand, side=found.side, region=region)

    side = "left" if label > 0.5 else "right"
    points = seen.keypoints if by == "keypoints" else None
    found = Detection((0.0, 0.0, 100.0, 100.0), 1.0, side, label, points)  # type: ignore[arg-type]
    assert better_side(fit, found, SCALE).side == truth and sorted(fits) == ["left", "right"]
    fits.clear()
    for sure in (None, UNSURE[0] - 0.01, UNSURE[1] + 0.01):
        assert better_side(fit, replace(found, left=sure), SCALE).side == side
    assert fits == [side] * 3


def test_without_evidence_the_label_stands() -> None:
    found = Detection((0.0, 0.0, 100.0, 100.0), 1.0, "left", 0.51)
    calls = []

    def fit(detection: Detection) -> Hand:
        calls.append(detection)
        return replace(a_hand(), side=detection.side)

    assert better_side(fit, found, SCALE).side == "left" and len(calls) == 1
