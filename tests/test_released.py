"""Crops, order and masks of the released pipeline, against OpenCV and the rules written out again."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hoirt import InputError
from hoirt.hands.released import released_crop, released_mask, released_order
from hypothesis import given, reject, settings
from hypothesis import strategies as st


def landmarks(seed: int, *, spread: float = 0.2, centre: tuple[float, float] = (0.5, 0.5)) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-spread, spread, (21, 2)) + centre


def reference_crop(picture: np.ndarray, points: np.ndarray, mirrored: bool) -> tuple[np.ndarray, int]:
    """The crop in float64 before the cast to bytes, from a canvas twice the picture's size, by OpenCV.

    Raises IndexError for one that leaves the canvas: the release fails where it begins before that, and
    stretches one that is cut short at its end.
    """
    height, width = picture.shape[:2]
    x = [point[0] for point in points]
    y = [point[1] for point in points]
    x_min, x_max = int(min(x) * width), int(max(x) * width)
    y_min, y_max = int(min(y) * height), int(max(y) * height)
    side = (max(x_max - x_min, y_max - y_min) * 1.6) // 2 * 2
    canvas = np.zeros((2 * height, 2 * width, 3))
    canvas[height // 2 : height // 2 + height, width // 2 : width // 2 + width] = picture
    first = [
        int((low + high) // 2 - (side / 2 - 1) + size / 2)
        for low, high, size in ((x_min, x_max, width), (y_min, y_max, height))
    ]
    last = [
        int((low + high) // 2 + side / 2 + size / 2)
        for low, high, size in ((x_min, x_max, width), (y_min, y_max, height))
    ]
    if min(first) < 0 or last[0] >= 2 * width or last[1] >= 2 * height:
        raise IndexError(f"the crop from {first} to {last} leaves the canvas")
    crop = canvas[first[1] : last[1] + 1, first[0] : last[0] + 1]
    assert crop.shape[:2] == (side, side)
    if mirrored:
        crop = cv2.flip(crop, 1)
    method = cv2.INTER_CUBIC if side < 224 else cv2.INTER_AREA
    return np.asarray(cv2.resize(crop, (224, 224), interpolation=method)), int(side)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 1000),
    st.sampled_from([(512, 512), (300, 400), (640, 360)]),
    st.floats(0.04, 0.28),
    st.tuples(st.floats(0.1, 0.9), st.floats(0.1, 0.9)),
    st.booleans(),
)
def test_crop_equals_opencv(
    seed: int, size: tuple[int, int], spread: float, centre: tuple[float, float], mirrored: bool
) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    points = landmarks(seed, spread=spread, centre=centre)
    try:
        expected, side = reference_crop(picture, points, mirrored)
    except IndexError:
        reject()
    crop = released_crop(points, size)
    assert crop.side == side
    got = crop.look(picture, mirrored=mirrored, wrap=False)
    assert got.shape == (224, 224, 3) and got.dtype == np.uint8
    clipped = np.clip(expected, 0, 255)
    # Sums are taken in another order: where a value is whole but for that, truncation may go either way.
    assert np.abs(got - np.trunc(clipped)).max() <= 1
    sure = np.abs(clipped - np.round(clipped)) > 1e-9
    assert np.array_equal(got[sure], np.trunc(clipped)[sure])


def test_overshoot_wraps_as_the_cast_does() -> None:
    """A white square on black, enlarged: the cubic goes beyond both ends."""
    picture = np.zeros((128, 128, 3), np.uint8)
    picture[56:72, 56:72] = 255
    points = landmarks(1)
    expected, side = reference_crop(picture, points, mirrored=False)
    assert side < 224 and expected.min() < -1 and expected.max() > 256
    crop = released_crop(points, (128, 128))
    whole = np.trunc(expected).astype(np.int64)
    sure = np.abs(expected - np.round(expected)) > 1e-9
    assert np.array_equal(crop.look(picture)[sure], (whole % 256)[sure])
    assert np.array_equal(crop.look(picture, wrap=False)[sure], np.clip(whole, 0, 255)[sure])


def test_side_224_is_a_copy() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (512, 512, 3)).astype(np.uint8)
    points = np.tile([[0.5, 0.5]], (21, 1))
    points[0], points[1] = (180 / 512, 200 / 512), (320.5 / 512, 300 / 512)  # 140 wide: 224
    crop = released_crop(points, (512, 512))
    assert crop.side == 224
    expected = picture[crop.top : crop.top + 224, crop.left : crop.left + 224]
    assert np.array_equal(crop.look(picture), expected)
    assert np.array_equal(crop.look(picture, mirrored=True), expected[:, ::-1])


def test_a_crop_larger_than_the_canvas_is_black_around() -> None:
    """The released code fails there."""
    picture = np.full((60, 400, 3), 200, np.uint8)
    points = np.tile([[0.5, 0.5]], (21, 1))
    points[0], points[1] = (0.05, 0.5), (0.95, 0.5)
    crop = released_crop(points, (60, 400))
    seen = crop.look(picture)
    assert crop.side == 576 and seen[0].max() == 0 and seen[112].max() == 200


def test_bounds_truncate_towards_zero_outside_the_picture() -> None:
    points = np.tile([[-0.0015, 0.5]], (21, 1))  # -0.768 pixels of 512: column 0
    points[1] = (0.2, 0.5)
    crop = released_crop(points, (512, 512))
    assert crop.side == int((102 * 1.6) // 2 * 2) and crop.left == 51 - crop.side // 2 + 1


@pytest.mark.parametrize(
    "wrong", [np.zeros((20, 2)), np.full((21, 2), np.nan), np.full((21, 2), 0.3), np.full((21, 2), 3e5)]
)
def test_impossible_landmarks_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(InputError, match="landmarks"):
        released_crop(wrong, (512, 512))


def test_far_hands_come_first() -> None:
    assert released_order([-0.1, 0.3, -0.1, 0.2]) == [1, 3, 0, 2]  # equal ones keep their order
    assert released_order([]) == []


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 40), st.integers(0, 3))
def test_mask_is_the_union_of_padded_rectangles(seed: int, padding: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    size = (96, 130)
    points = [rng.uniform(-0.2, 1.2, (21, 2)) * rng.uniform(0.1, 1) for _ in range(count)]
    depth = [np.zeros(size, np.uint8) for _ in range(count)]
    for drawn in depth:
        y, x = rng.integers(0, 90), rng.integers(0, 120)
        drawn[y : y + rng.integers(0, 40), x : x + rng.integers(0, 60)] = 77
    expected = np.zeros(size, np.uint8)
    row, column = np.mgrid[: size[0], : size[1]]
    for drawn, hand in zip(depth, points, strict=True):
        xs, ys = [int(x * size[1]) for x, _ in hand], [int(y * size[0]) for _, y in hand]
        xs, ys = xs + column[drawn > 0].tolist(), ys + row[drawn > 0].tolist()
        pad_x = max(int((max(xs) - min(xs) + 1) * 0.15), padding)
        pad_y = max(int((max(ys) - min(ys) + 1) * 0.15), padding)
        inside = (column >= min(xs) - pad_x) & (column <= max(xs) + pad_x)
        inside &= (row >= min(ys) - pad_y) & (row <= max(ys) + pad_y)
        expected[inside] = 255
    assert np.array_equal(released_mask(depth, points, size, padding), expected)


def test_mask_refuses_depth_of_another_size() -> None:
    with pytest.raises(InputError, match="depth"):
        released_mask([np.zeros((4, 4))], [landmarks(0)], (5, 5))
    with pytest.raises(InputError, match="0 depth maps for 1"):
        released_mask([], [landmarks(0)], (5, 5))
