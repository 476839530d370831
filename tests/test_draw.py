"""Hand drawing: every picture equal to OpenCV's, bit for bit; styles, traps, bad input."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hoirt import InputError
from hoirt.render.draw import draw_hand
from hoirt.render.palettes import openpose_hand, pam_hand
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import draw_reference as reference

HALF_WIDTHS = {"dexycb": (6, 3), "oakink2": (4, 2)}
SEEDS = st.integers(0, 2**32 - 1)


def black(size: tuple[int, int]) -> np.ndarray:
    return np.zeros((*size, 3), np.uint8)


def random_hands(
    rng: np.random.Generator, size: tuple[int, int], spread: float, count: int = 4
) -> np.ndarray:
    """Joints around points of the picture, many of them outside of it."""
    centres = rng.uniform((0, 0), size[::-1], (count, 1, 2))
    joints = centres + rng.normal(0.0, spread, (count, 21, 2))
    return np.rint(joints * 2) / 2 if rng.integers(2) else joints  # halves: the rounding of ties


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(1, 160), st.integers(1, 200), st.sampled_from([8.0, 60.0, 400.0, 1e5]))
@pytest.mark.parametrize("style", ["dexycb", "oakink2"])
def test_pam_equals_opencv(style: Any, seed: int, height: int, width: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    joints = random_hands(rng, (height, width), spread)
    depth = rng.uniform(0.3, 1.0, (4, 21))
    side = "right" if style == "oakink2" and rng.integers(2) else None
    drawn = draw_hand(joints, (height, width), style=style, depth=depth, side=side)
    fingers = reference.RIGHT if side else reference.LEFT
    for picture, hand, z in zip(drawn, joints, depth, strict=True):
        wanted = reference.pam(black((height, width)), hand, HALF_WIDTHS[style], fingers, bool(z[0] < z[20]))
        np.testing.assert_array_equal(picture, wanted)


@settings(max_examples=100, deadline=None)
@given(SEEDS, st.integers(1, 160), st.integers(1, 200), st.sampled_from([8.0, 60.0, 400.0, 1e5]))
def test_openpose_equals_opencv(seed: int, height: int, width: int, spread: float) -> None:
    joints = random_hands(np.random.default_rng(seed), (height, width), spread)
    drawn = draw_hand(joints, (height, width), style="openpose")
    for picture, hand in zip(drawn, joints, strict=True):
        np.testing.assert_array_equal(picture, reference.openpose(black((height, width)), hand))


@pytest.mark.parametrize("half_width", [2, 3, 4, 6])
def test_every_limb_of_a_radius_equals_opencv(half_width: int) -> None:
    """Every direction and length at which the truncated angle or half length can step."""
    joints, wanted, style = [], [], "dexycb" if half_width in (3, 6) else "oakink2"
    limb = 0 if half_width in (4, 6) else 4
    for x in range(-40, 41, 3):
        for y in range(-40, 41):
            hand = np.full((21, 2), 1000.0)
            hand[0], hand[limb + 1] = (45, 45), (45 + x, 45 + y)
            joints.append(hand)
            wanted.append(reference.pam(black((90, 90)), hand, HALF_WIDTHS[style]))
    drawn = draw_hand(np.array(joints), (90, 90), style=style)
    np.testing.assert_array_equal(drawn, np.array(wanted))


def chain(limb: int, length: float) -> np.ndarray:
    """A hand with one limb of that length; the other joints lie far away."""
    hand = np.full((21, 2), 5000.0) + 500.0 * np.arange(21)[:, None]
    hand[0 if limb % 4 == 0 else limb], hand[limb + 1] = (20, 90), (20 + length, 90)
    return hand


@pytest.mark.parametrize(("length", "drawn"), [(5, False), (6, True), (149, True), (150, False)])
def test_limbs_from_5_to_150_pixels(length: int, drawn: bool) -> None:
    picture = draw_hand(chain(8, length), (180, 200))
    assert (picture == pam_hand()[1][8]).all(axis=-1).any() == drawn  # no joint here has the limb's colour


def test_thumb_limbs_are_wider() -> None:
    for style, widths in HALF_WIDTHS.items():
        for limb, half_width in ((1, widths[0]), (5, widths[1])):
            column = draw_hand(chain(limb, 80), (180, 200), style=style)[:, 60].any(axis=-1)  # type: ignore[arg-type]
            assert column.sum() == 2 * half_width + 1


def test_limbs_cover_joints_and_their_order_turns_with_depth() -> None:
    rng = np.random.default_rng(3)
    joints = rng.uniform(20, 80, (21, 2))
    depth = np.linspace(0.5, 0.6, 21)  # the wrist nearer
    size = (100, 100)
    forward = draw_hand(joints, size)
    np.testing.assert_array_equal(draw_hand(joints, size, depth=depth[::-1]), forward)
    np.testing.assert_array_equal(
        draw_hand(joints, size, depth=np.full(21, 0.5)), forward
    )  # equal: not nearer
    reversed_order = draw_hand(joints, size, depth=depth)
    assert (forward != reversed_order).any()
    np.testing.assert_array_equal(reversed_order, reference.pam(black(size), joints, (6, 3), reverse=True))


def test_colours_saturate() -> None:
    """base + 35 (i % 4) runs over 255, where OpenCV saturates and does not wrap."""
    joints, limbs = pam_hand()
    np.testing.assert_array_equal(joints[3], (139 + 105, 53 + 105, 255))
    np.testing.assert_array_equal(limbs[11], (43 + 105, 140 + 105, 255))
    right, _ = pam_hand(right=True)
    np.testing.assert_array_equal(right[12:16], np.full((4, 3), 255))
    np.testing.assert_array_equal(right[20], (150, 150, 150))


def test_openpose_colours_equal_opencv() -> None:
    for k, colour in enumerate(openpose_hand()[1]):
        picture = black((8, 8))
        cv2.line(
            picture, (2, 4), (6, 4), [255.0 * v for v in reference.matplotlib_hsv(k / 20.0)], thickness=2
        )
        np.testing.assert_array_equal(picture[4, 4], colour)


def test_coordinates_are_rounded_half_to_even_or_cut() -> None:
    pam = np.full((21, 2), 900.0)
    pam[0] = (10.5, 11.5)
    assert np.argwhere(draw_hand(pam, (30, 30)).any(axis=-1)).mean(axis=0).tolist() == [12.0, 10.0]
    pose = np.zeros((21, 2))
    pose[0] = (10.9, 11.9)
    drawn = draw_hand(pose, (30, 30), style="openpose").any(axis=-1)
    assert np.argwhere(drawn).mean(axis=0).tolist() == [11.0, 10.0]


def test_a_missing_joint_blanks_the_frame() -> None:
    rng = np.random.default_rng(0)
    joints = rng.uniform(10, 90, (3, 21, 2))
    joints[1, 7, 1] = -1.0
    joints[2, 7, 1] = -1.001  # outside, not missing
    drawn = draw_hand(joints, (100, 100))
    assert [bool(picture.any()) for picture in drawn] == [True, False, True]


def test_openpose_leaves_out_joints_at_the_border_only() -> None:
    joints = np.random.default_rng(0).uniform(10, 90, (21, 2))
    joints[5] = (0.9, 50.0)
    drawn = draw_hand(joints, (100, 100), style="openpose")
    np.testing.assert_array_equal(drawn, reference.openpose(black((100, 100)), joints))
    assert not (drawn == openpose_hand()[1][4]).all(axis=-1).any()  # the limb 0-5
    assert (drawn == openpose_hand()[1][0]).all(axis=-1).any()


def test_hands_are_drawn_on_top_of_pictures_below() -> None:
    rng = np.random.default_rng(1)
    left, right = rng.uniform(10, 90, (2, 2, 21, 2))
    both = draw_hand(right, style="oakink2", side="right", below=draw_hand(left, (100, 100), style="oakink2"))
    for picture, a, b in zip(both, left, right, strict=True):
        first = reference.pam(black((100, 100)), a, (4, 2))
        np.testing.assert_array_equal(picture, reference.pam(first, b, (4, 2), reference.RIGHT))
    below = rng.integers(0, 256, (100, 100, 3)).astype(np.uint8)
    kept = below.copy()
    np.testing.assert_array_equal(draw_hand(left[0], below=below), reference.pam(below, left[0], (6, 3)))
    np.testing.assert_array_equal(below, kept)


def test_frames_and_threads() -> None:
    joints = np.random.default_rng(2).uniform(-20, 120, (9, 21, 2))
    clip = draw_hand(joints, (100, 110), threads=1)
    assert clip.shape == (9, 100, 110, 3)
    np.testing.assert_array_equal(draw_hand(joints, (100, 110), threads=5), clip)
    np.testing.assert_array_equal(draw_hand(joints[4], (100, 110)), clip[4])
    np.testing.assert_array_equal(draw_hand(joints.astype(np.float32)[4], (100, 110)), clip[4])
    assert draw_hand(joints[:0], (100, 110)).shape == (0, 100, 110, 3)


@pytest.mark.parametrize("style", ["dexycb", "openpose"])
def test_far_away_joints_neither_hang_nor_overflow(style: Any) -> None:
    rng = np.random.default_rng(5)
    joints = rng.choice([-(2.0**30), 2.0**30, 50.0, 3e7], (20, 21, 2))
    assert draw_hand(joints, (64, 64), style=style).shape == (20, 64, 64, 3)


JOINTS = np.full((2, 21, 2), 5.0)


@pytest.mark.parametrize(
    ("joints", "options", "message"),
    [
        (np.zeros((2, 20, 2)), {}, r"joints_2d must have shape \(N, 21, 2\)"),
        (np.zeros((21, 3)), {}, "joints_2d must have shape"),
        (np.zeros(0), {}, "joints_2d must have shape"),
        (np.full((21, 2), "a"), {}, "real numbers"),
        (np.zeros((21, 2), complex), {}, "real numbers"),
        (np.zeros((21, 2), bool), {}, "real numbers"),
        ([[1, 2], [3]], {}, "joints_2d"),
        (None, {}, "real numbers"),
        (np.full((21, 2), np.nan), {}, "joint 0 of frame 0"),
        (np.full((21, 2), -np.inf), {}, "joint 0 of frame 0"),
        (np.full((21, 2), 2.0**31), {}, r"2\^30"),
        (JOINTS, {"style": "coco"}, "style"),
        (JOINTS, {"side": "both"}, "side"),
        (JOINTS, {"side": "right"}, "oakink2"),
        (JOINTS, {"depth": np.zeros((2, 20))}, "depth must have shape"),
        (JOINTS, {"depth": np.zeros(21)}, "depth must have shape"),
        (JOINTS, {"depth": np.full((2, 21), np.nan)}, "NaN"),
        (JOINTS, {"depth": np.zeros((2, 21)), "style": "openpose"}, "depth"),
        (JOINTS, {"size": None}, "size"),
        (JOINTS, {"size": (0, 10)}, "size"),
        (JOINTS, {"size": (10, 8193)}, "size"),
        (JOINTS, {"size": (10.5, 10)}, "size"),
        (JOINTS, {"size": (True, 10)}, "size"),
        (JOINTS, {"size": 10}, "size"),
        (JOINTS, {"size": (1, 2, 3)}, "size"),
        (JOINTS, {"below": np.zeros((2, 10, 10, 3), np.uint8)}, "either size"),
        (JOINTS, {"size": None, "below": np.zeros((1, 10, 10, 3), np.uint8)}, "joints must have shape"),
        (JOINTS, {"size": None, "below": np.zeros((2, 10, 10), np.uint8)}, "below must have shape"),
        (JOINTS, {"size": None, "below": np.zeros((2, 10, 10, 3))}, "below"),
        (JOINTS, {"threads": -1}, "threads"),
        (JOINTS, {"threads": 1.5}, "threads"),
    ],
)
def test_bad_input_is_an_input_error(joints: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        draw_hand(joints, **{"size": (10, 10), **options})
