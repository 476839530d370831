"""Distances, grown and softened masks, and the other maps of a region, against NumPy and SciPy."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from device_tools import back, there
from hoirt import InputError, _core
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

Mask = NDArray[np.bool_]


def searched(mask: Mask) -> NDArray[np.float64]:
    """The distance to the nearest set pixel among all; infinite without one."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return np.full(mask.shape, np.inf)
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]]
    squares = (y[..., None] - rows) ** 2 + (x[..., None] - columns) ** 2
    return np.sqrt(squares.min(axis=2).astype(np.float64))


def softened(mask: Mask, width: float, border: bool) -> NDArray[np.float64]:
    """Smoothstep of the distance to what is outside, over width + 1 pixels."""
    if width < 1:
        return mask.astype(np.float64)
    outside = searched(np.pad(~mask, 1, constant_values=border))[1:-1, 1:-1]
    ramp = np.clip(outside / (width + 1), 0, 1)
    return np.asarray(ramp * ramp * (3 - 2 * ramp))


masks = st.builds(
    lambda seed, height, width, share: np.random.default_rng(seed).random((height, width)) < share,
    st.integers(0, 2**32 - 1),
    st.integers(1, 40),
    st.integers(1, 90),
    st.sampled_from([0.0, 0.001, 0.02, 0.3, 0.98, 1.0]),
)


@settings(max_examples=80, deadline=None)
@given(masks, st.sampled_from([0, 1, 2, 3, 7, 20, 200, 2**31 - 1]))
def test_distance_and_grow(mask: Mask, radius: int) -> None:
    wanted = searched(mask)
    found = _core.distance(mask, radius)
    near = wanted <= radius
    assert found.dtype == np.float32 and (found[near] == wanted[near].astype(np.float32)).all()
    assert (found[~near] > radius).all() and (found <= np.float32(2 * (radius + 1))).all()
    grown = _core.grow(mask, radius)
    assert grown.dtype == np.bool_ and (grown == near).all()
    assert (_core.grow(mask.astype(np.uint8) * np.uint8(200), radius) == near).all()


@settings(max_examples=80, deadline=None)
@given(masks, st.one_of(st.floats(0, 40), st.sampled_from([0.0, 0.99, 1.0, 1000.0, 2.0**20])), st.booleans())
def test_soften(mask: Mask, width: float, border: bool) -> None:
    found = _core.soften(mask, width, fade_at_border=border)
    assert found.dtype == np.float32
    assert np.allclose(found, softened(mask, width, border), rtol=0, atol=1e-6)
    assert not found[~mask].any() and (found[mask] > 0).all()


@pytest.mark.parametrize("radius", [5, 30])
def test_distance_of_a_large_picture(place: str, radius: int) -> None:
    """Several threads and blocks; every device has the same bits."""
    mask = np.random.default_rng(0).random((301, 517)) < 0.0005
    mask[40:90, 100:300] = True
    wanted = distance_transform_edt(~mask)
    found = back(_core.distance(there(place, mask), radius))
    assert (found[wanted <= radius] == wanted[wanted <= radius].astype(np.float32)).all()
    assert (back(_core.grow(there(place, mask), radius)) == (wanted <= radius)).all()
    for border in (True, False):
        soft = back(_core.soften(there(place, mask), radius - 0.5, fade_at_border=border))
        assert (soft == _core.soften(mask, radius - 0.5, fade_at_border=border)).all()
        outside = distance_transform_edt(np.pad(mask, 1, constant_values=not border))[1:-1, 1:-1]
        ramp = np.clip(outside / (radius + 0.5), 0, 1)
        assert np.allclose(soft, ramp**2 * (3 - 2 * ramp), rtol=0, atol=1e-6)


def test_the_longest_distances_are_exact() -> None:
    mask = np.zeros((1, 16384), np.bool_)
    mask[0, 0] = True
    assert (_core.distance(mask, 20000)[0] == np.arange(16384, dtype=np.float32)).all()


def test_views_and_threads() -> None:
    mask = np.random.default_rng(1).random((200, 260)) < 0.01
    wanted = _core.distance(np.ascontiguousarray(mask[::2, ::-1]), 9)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: _core.distance(mask[::2, ::-1], 9), range(8)):
            assert (found == wanted).all()


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.zeros((0, 4), bool), "mask must be"),
        (np.zeros((4, 0), bool), "mask must be"),
        (np.zeros(4, bool), "mask must be"),
        (np.zeros((2, 4, 4), bool), "mask must be"),
        (np.full((4, 4), np.nan, np.float32), "mask must be"),
        (np.zeros((4, 4), np.int32), "mask must be"),
        (np.zeros((1, 16385), bool), "16384"),
        ([[True]], "mask"),
        (None, "mask"),
    ],
)
def test_wrong_masks(mask: Any, words: str) -> None:
    for call in (
        lambda: _core.distance(mask, 1),
        lambda: _core.grow(mask, 1),
        lambda: _core.soften(mask, 1.0, fade_at_border=True),
    ):
        with pytest.raises(InputError, match=words):
            call()


def test_wrong_radii_widths_and_factors() -> None:
    mask = np.ones((4, 6), bool)
    for radius in (-1, 2**31, 1.5, "3", None, float("nan")):
        with pytest.raises(InputError, match="radius"):
            _core.distance(mask, radius)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="radius"):
            _core.grow(mask, radius)  # type: ignore[arg-type]
    for width in (-0.1, float("nan"), float("inf"), 2.0**20 + 1):
        with pytest.raises(InputError, match="width"):
            _core.soften(mask, width, fade_at_border=False)
    for factor in (0, -1, 3, 4, 2**40):
        with pytest.raises(InputError, match="factor"):
            _core.touched(mask[None], factor)
