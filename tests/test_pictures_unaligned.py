"""Kernels on pictures at every alignment and odd sizes, on each device, as on the CPU for aligned memory."""

from __future__ import annotations

import numpy as np
import pytest
from device_tools import back, shifted
from hoirt import _core
from numpy.typing import NDArray

SIZES = [(16, 32), (7, 13), (1, 1), (3, 50)]
SHIFTS = [0, 1, 5]


@pytest.fixture(params=SIZES, ids=str)
def size(request: pytest.FixtureRequest) -> tuple[int, int]:
    return (int(request.param[0]), int(request.param[1]))


@pytest.fixture(params=SHIFTS)
def shift(request: pytest.FixtureRequest) -> int:
    """How many elements the arrays begin behind a multiple of 16 bytes."""
    return int(request.param)


def some_bytes(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape).astype(np.uint8)


def some_floats(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(sum(shape)).normal(100, 90, shape).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic"])
def test_resize(place: str, size: tuple[int, int], shift: int, channels: int, name: str) -> None:
    for array in (some_bytes(*size, channels), some_floats(*size, channels)):
        for target in [(5, 21), (size[0], 40), (33, size[1])]:
            wanted = back(_core.resize(array, target, filter=name))
            got = back(_core.resize(shifted(place, array, shift), target, filter=name))
            np.testing.assert_array_equal(got, wanted, err_msg=f"{array.dtype} {target}")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_normalise(place: str, size: tuple[int, int], shift: int, dtype: str) -> None:
    for channels in (1, 3):
        pixels, holes = some_bytes(2, *size, channels), some_bytes(2, *size) < 99
        for hole in (None, holes):
            wanted = back(_core.normalise(pixels, hole, dtype=dtype))
            given = None if hole is None else shifted(place, hole, 3 * shift)
            got = back(_core.normalise(shifted(place, pixels, shift), given, dtype=dtype))
            np.testing.assert_array_equal(got, wanted)


def test_colours(place: str, size: tuple[int, int], shift: int) -> None:
    planes = some_floats(2, 3, *size) / 100
    for dtype in (np.float32, np.float16):
        wanted = back(_core.colours(planes.astype(dtype)))
        np.testing.assert_array_equal(
            back(_core.colours(shifted(place, planes.astype(dtype), shift))), wanted
        )


def test_match_colours(place: str, size: tuple[int, int], shift: int) -> None:
    decoded, original, hole = some_floats(*size, 3), some_bytes(*size, 3), some_bytes(*size) < 99
    wanted = back(_core.match_colours(decoded, original, hole))
    got = _core.match_colours(
        shifted(place, decoded, shift), shifted(place, original, 2 * shift), shifted(place, hole, 3 * shift)
    )
    np.testing.assert_array_equal(back(got), wanted)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pad_edge(place: str, size: tuple[int, int], shift: int, channels: int) -> None:
    array = some_bytes(*size, channels)
    for top, left in [(0, 0), (2, 7)]:
        got = _core.pad_edge(shifted(place, array, shift), (size[0] + 5, size[1] + 18), top, left)
        widths = ((top, 5 - top), (left, 18 - left), (0, 0))
        np.testing.assert_array_equal(back(got), np.pad(array, widths, mode="edge"))


@pytest.mark.parametrize(("top", "left"), [(0, 0), (2, 3), (-1, -4), (5, 27), (0, 16), (40, 0)])
def test_paste_into(place: str, size: tuple[int, int], shift: int, top: int, left: int) -> None:
    picture, patch = some_bytes(9, 45, 3), some_floats(*size, 3)
    alpha = np.clip(some_floats(*size) / 200, 0, 1)
    into = shifted(place, picture, shift)
    _core.paste_into(into, shifted(place, patch, shift), shifted(place, alpha, 2 * shift), top, left)
    np.testing.assert_array_equal(back(into), back(_core.paste(picture, patch, alpha, top=top, left=left)))


def test_sample_posterior(place: str, size: tuple[int, int], shift: int) -> None:
    mean, logvar, noise = some_floats(*size), some_floats(*size) / 100, some_floats(2, *size)[0]
    options = {"scale": 0.18, "divisor": 1.5}
    for given in ((mean,), (mean, logvar, noise)):
        wanted = back(_core.sample_posterior(*given, **options))
        got = _core.sample_posterior(*(shifted(place, a, shift + i) for i, a in enumerate(given)), **options)
        np.testing.assert_allclose(back(got), wanted, rtol=0 if place == "cpu" else 1e-6)
