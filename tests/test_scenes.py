"""Synthetic scenes: seeded, consistent with their truths, and the malformed twin differs only at the hand."""

import numpy as np
import pytest

from export.tiny.dataset import Crop
from export.tiny.scenes import make_picture
from export.tiny.scenes.malform import KINDS, malform
from export.tiny.scenes.poses import random_pose

SEEDS = (2_000_000, 2_000_001, 2_000_007)


@pytest.fixture(scope="module", params=SEEDS)
def picture(request: pytest.FixtureRequest):
    return make_picture(request.param)


def test_a_seed_makes_the_same_picture(picture) -> None:
    again = make_picture(SEEDS[0])
    first = make_picture(SEEDS[0])
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.malformed, again.malformed)
    assert not np.array_equal(first.image, make_picture(SEEDS[1]).image)


def test_shapes_and_ranges(picture) -> None:
    assert picture.image.shape == picture.malformed.shape == (256, 256, 3)
    assert picture.depth.shape == picture.region.shape == (256, 256)
    assert set(np.unique(picture.region)) <= {0, 1}
    inside = picture.depth[picture.depth > 0]
    # The map keeps every second subpixel of each axis, so that the nearest and farthest ones may be lost.
    assert 245 <= inside.max() <= 255 and 50 <= inside.min() <= 70
    assert 1 <= len(picture.hands) <= 2


def test_depth_and_region_agree(picture) -> None:
    both = (picture.depth > 0) & (picture.region > 0)
    either = (picture.depth > 0) | (picture.region > 0)
    assert both.sum() > 0.9 * either.sum()


def test_distance_shows_the_hands_and_their_arms(picture) -> None:
    assert picture.distance.shape == (256, 256) and picture.distance.dtype == np.float32
    assert (picture.distance[picture.depth > 0] > 0.2).all()
    assert ((picture.distance > 0) & (picture.depth == 0)).sum() > 200  # forearm or sleeve
    # Of one hand, what the depth map calls nearer is nearer.
    order = np.argsort(picture.distance[picture.depth > 0])
    if len(picture.hands) == 1:
        assert (np.diff(picture.depth[picture.depth > 0][order].astype(int)) <= 0).all()


def test_keypoints_lie_on_the_hand(picture) -> None:
    for hand in picture.hands:
        points = np.round(hand.keypoints).astype(int)
        seen = [(x, y) for x, y in points if 1 <= x < 255 and 1 <= y < 255]
        on = [picture.depth[y - 1 : y + 2, x - 1 : x + 2].any() for x, y in seen]
        assert np.mean(on) > 0.75  # another arm may hide some
        x0, y0, x1, y1 = hand.box
        assert abs((x1 - x0) - (y1 - y0)) < 1e-3
        assert (hand.keypoints[:, 0] > x0 - 2).all() and (hand.keypoints[:, 0] < x1 + 2).all()


def test_twin_differs_at_the_hand_only(picture) -> None:
    changed = np.abs(picture.image.astype(int) - picture.malformed.astype(int)).max(axis=2) > 8
    assert changed.sum() > 60
    near = np.zeros((256, 256), bool)
    for hand in picture.hands:
        x0, y0, x1, y1 = hand.box
        grow = 0.45 * (x1 - x0)  # crevice shading reaches a little further than the hand
        near[max(0, int(y0 - grow)) : int(y1 + grow), max(0, int(x0 - grow)) : int(x1 + grow)] = True
    assert changed[~near].mean() < 0.02
    assert all(set(hand.defects) <= set(KINDS) and hand.defects for hand in picture.hands)
    assert all(hand.side in hand.caption for hand in picture.hands)


def test_every_kind_of_defect_changes_the_surface() -> None:
    seen = set()
    rng = np.random.default_rng(5)
    for _ in range(40):
        pose = random_pose(rng)
        surface, kinds = malform(pose, rng)
        assert np.isfinite(surface.vertices).all()
        assert surface.faces.max() < len(surface.vertices) == len(surface.rest)
        seen |= set(kinds)
    assert seen == set(KINDS)


def test_poses_are_rotations() -> None:
    rng = np.random.default_rng(6)
    for _ in range(20):
        turns = random_pose(rng).rotations.astype(np.float64)
        np.testing.assert_allclose(
            turns @ turns.transpose(0, 2, 1), np.tile(np.eye(3), (16, 1, 1)), atol=1e-5
        )
        np.testing.assert_allclose(np.linalg.det(turns), 1.0, atol=1e-5)


def test_crop_repeats_edges_and_maps_points() -> None:
    image = np.arange(64 * 64, dtype=np.uint32).reshape(64, 64)
    image = np.stack([image % 251] * 3, axis=-1).astype(np.uint8)
    crop = Crop(-10.0, 5.5, 60.0)
    cut = crop.of(image, 120)
    assert cut.shape == (120, 120, 3)
    np.testing.assert_allclose(
        crop.points(np.array([[-10.0, 5.5], [50.0, 65.5]], np.float32), 120), [[0, 0], [120, 120]]
    )
    assert (cut[:, :16] == cut[:, :1]).all()
