"""paste() against its formula in NumPy, at every border, and with wrong input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hoirt import InputError, _core
from hypothesis import given, settings
from hypothesis import strategies as st


def oracle(picture: Any, patch: Any, alpha: Any, top: int, left: int) -> Any:
    out = picture.copy()
    for i in range(patch.shape[0]):
        for j in range(patch.shape[1]):
            y, x = top + i, left + j
            if 0 <= y < out.shape[0] and 0 <= x < out.shape[1] and alpha[i, j] != 0:
                a = float(alpha[i, j])
                mixed = a * patch[i, j].astype(float) + (1 - a) * picture[y, x]
                out[y, x] = np.clip(np.rint(mixed), 0, 255)
    return out


def example(seed: int, size: tuple[int, int], patch: tuple[int, int]) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    alpha = rng.choice([0, 0.25, 0.5, 1, rng.uniform()], patch).astype(np.float32)
    colours = rng.uniform(-20, 275, (*patch, 3)).astype(np.float32)
    return rng.integers(0, 256, (*size, 3), np.uint8), colours, alpha


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 1000),
    size=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    patch=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    top=st.integers(-9, 9),
    left=st.integers(-9, 9),
)
def test_formula(seed: int, size: tuple[int, int], patch: tuple[int, int], top: int, left: int) -> None:
    picture, colours, alpha = example(seed, size, patch)
    before = picture.copy()
    out = _core.paste(picture, colours, alpha, top, left)
    np.testing.assert_array_equal(out, oracle(picture, colours, alpha, top, left))
    np.testing.assert_array_equal(picture, before)
    assert out.dtype == np.uint8 and not np.shares_memory(out, picture)


def test_alpha_zero_keeps_the_bits() -> None:
    picture, colours, alpha = example(1, (8, 8), (8, 8))
    np.testing.assert_array_equal(_core.paste(picture, colours, 0 * alpha, 0, 0), picture)


@pytest.mark.parametrize("place", [(2**62, 0), (-(2**63), 0), (0, 2**63 - 1), (0, -(2**62))])
def test_far_away_leaves_the_picture(place: tuple[int, int]) -> None:
    picture, colours, alpha = example(2, (5, 5), (3, 3))
    np.testing.assert_array_equal(_core.paste(picture, colours, alpha, *place), picture)


def test_strided_pictures() -> None:
    picture, colours, alpha = example(3, (9, 9), (4, 4))
    view = picture[::-1, ::2]
    np.testing.assert_array_equal(_core.paste(view, colours, alpha, 1, 1), oracle(view, colours, alpha, 1, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"picture": np.zeros((4, 4), np.uint8)}, r"picture must have shape \(H, W, 3\), not \(4, 4\)"),
        ({"picture": np.zeros((4, 4, 4), np.uint8)}, "picture must have shape"),
        ({"picture": np.zeros((4, 4, 3))}, "picture must hold uint8, not float64"),
        ({"patch": np.zeros((2, 2, 4), np.float32)}, "patch must have shape"),
        ({"patch": np.zeros((2, 2, 3), np.uint8)}, "patch must hold float32, not uint8"),
        ({"patch": np.full((2, 2, 3), np.nan, np.float32)}, "patch holds NaN"),
        ({"alpha": np.zeros((2, 3), np.float32)}, r"alpha must have the patch's height and width \(2, 2\)"),
        ({"alpha": np.full((2, 2), 1.5, np.float32)}, "alpha must lie in 0..1"),
        ({"alpha": np.full((2, 2), np.nan, np.float32)}, "alpha must lie in 0..1"),
        ({"alpha": None}, "alpha must be an array"),
    ],
)
def test_wrong_input(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "picture": np.zeros((4, 4, 3), np.uint8),
        "patch": np.zeros((2, 2, 3), np.float32),
        "alpha": np.ones((2, 2), np.float32),
        "top": 0,
        "left": 0,
    }
    with pytest.raises(InputError, match=message):
        _core.paste(**(arguments | change))
