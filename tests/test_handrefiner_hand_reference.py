"""The reference's rules about the hand on cases whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from handrefiner_hand_reference import (
    compose_released,
    depth_values_released,
    mask_released,
    mpjpe_released,
    project_released,
)


def test_joints_are_seen_through_the_released_camera() -> None:
    # A point at the mesh's origin with no shift lies in the middle; z is 2000 / (224 s) whatever the crop.
    camera = np.array([0.9, 0.0, 0.0])
    for side in (224.0, 100.0):
        points = np.array([[0.0, 0.0, 0.0], [0.1, -0.05, 0.0]])
        seen = project_released(points, camera, side)
        np.testing.assert_allclose(seen[0], side / 2)
        # Weak perspective at the origin's depth: s * L / 2 pixels a metre.
        np.testing.assert_allclose(seen[1] - side / 2, np.array([0.1, -0.05]) * 0.9 * side / 2, rtol=1e-6)
    moved = project_released(np.zeros((1, 3)), np.array([0.9, 0.1, -0.2]), 224.0)
    np.testing.assert_allclose(moved[0] - 112.0, np.array([0.1, -0.2]) * 0.9 * 112.0, rtol=1e-6)


def test_pose_error_is_the_mean_over_all_joints_of_all_hands() -> None:
    moved, still = np.full((21, 2), (3.0, 4.0)), np.zeros((21, 2))
    assert mpjpe_released([moved, still], [still, still]) == pytest.approx(2.5)


def test_depth_values_of_a_hand() -> None:
    z = np.full((2, 3), np.nan)
    z[0] = 0.5, 0.75, 1.0
    values = depth_values_released(z)
    assert values[0].tolist()[:2] == [255, 153]
    assert values[0, 2] in (50, 51)  # 255 * (1 - 0.8) in float64 is a hair below 51, and is cut
    assert not values[1].any()


def test_nearer_hands_cover_farther_ones() -> None:
    far, near = np.full((1, 3), 60, np.uint8), np.array([[0, 200, 200]], np.uint8)
    np.testing.assert_array_equal(compose_released([near, far], [-0.1, 0.2]), [[60, 200, 200]])


def test_mask_is_a_padded_rectangle() -> None:
    depth = np.zeros((400, 500), np.uint8)
    depth[100:150, 200:480] = 99
    landmarks = np.full((21, 2), 220.9)
    landmarks[3] = 190.7, 160.2
    mask = mask_released([(depth, landmarks)])
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    # Rows 100..220: 15 % of 121 is less than 30; columns 190..479: 15 % of 290 is 43, clipped at the right.
    assert (rows[0], rows[-1]) == (70, 250)
    assert (columns[0], columns[-1]) == (147, 499)
    assert set(np.unique(mask)) == {0, 255}
    assert (mask[rows[0] : rows[-1] + 1, columns[0] :] == 255).all()
