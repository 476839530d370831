"""The colour match: a shift is taken out, kept pixels come near the original, the hole follows its rim."""

from __future__ import annotations

import numpy as np
from hoirt._core import match_colours
from hypothesis import given
from hypothesis import strategies as st


def picture(seed: int = 0, size: tuple[int, int] = (64, 96)) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 190, (*size, 3)).astype(np.uint8)


def hole(size: tuple[int, int] = (64, 96)) -> np.ndarray:
    mask = np.zeros(size, np.bool_)
    mask[20:50, 30:70] = True
    return mask


@given(st.tuples(*[st.floats(-40, 40)] * 3))
def test_a_constant_shift_is_taken_out_everywhere(shift: tuple[float, float, float]) -> None:
    original, mask = picture(), hole()
    decoded = original.astype(np.float32) + np.array(shift, np.float32)
    np.testing.assert_allclose(match_colours(decoded, original, mask), original, atol=0.01)


def test_a_smooth_shift_is_continued_into_the_hole() -> None:
    original, mask = picture(), hole()
    y, x = np.mgrid[:64, :96] / 96.0
    shift = np.stack([20 * x, -15 * y, 10 * (x - y)], axis=2).astype(np.float32)
    left = np.abs(match_colours(original + shift, original, mask) - original)
    assert left[~mask].mean() < 1.0 and left[mask].max() < 6.0  # of up to 20


def test_texture_in_the_hole_stays() -> None:
    original, mask = picture(1), hole()
    decoded = picture(2).astype(np.float32)
    decoded[~mask] = original[~mask]
    matched = match_colours(decoded, original, mask)
    np.testing.assert_allclose(matched, decoded, atol=1e-3)


def test_nothing_kept_and_nothing_cut() -> None:
    original = picture()
    decoded = original.astype(np.float32) + 5
    everything = np.ones((64, 96), np.bool_)
    np.testing.assert_array_equal(match_colours(decoded, original, everything), decoded)
    np.testing.assert_allclose(match_colours(decoded, original, ~everything), original, atol=0.01)
    edge = match_colours(np.full((64, 96, 3), 255, np.float32), np.full((64, 96, 3), 255, np.uint8), hole())
    assert edge.max() <= 255


def test_odd_sizes() -> None:
    size = (33, 50)
    mask = np.zeros(size, np.bool_)
    mask[5:30, 8:40] = True
    original = picture(0, size)
    np.testing.assert_allclose(
        match_colours(original.astype(np.float32) - 9, original, mask), original, atol=0.01
    )
