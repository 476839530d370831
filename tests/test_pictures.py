"""Resize, normalise, colours and colour match of the native core against Pillow and NumPy, on each device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from colour_reference import match_colours
from device_tools import back, moved, there
from hoirt import InputError, _core
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def pillow(array: NDArray[Any], size: tuple[int, int], box: Any, name: str) -> NDArray[Any]:
    """Pillow's resize, along x and then along y, as always before Pillow 13, which may turn that round."""
    if array.ndim == 3:
        planes = [pillow(np.ascontiguousarray(array[..., c]), size, box, name) for c in range(array.shape[2])]
        return np.stack(planes, axis=-1)
    height, width = array.shape
    x0, y0, x1, y1 = box or (0, 0, width, height)
    image = Image.fromarray(array)
    if name == "nearest":
        return np.asarray(image.resize((size[1], size[0]), FILTERS[name], (x0, y0, x1, y1)))
    across = image.resize((size[1], height), FILTERS[name], (x0, 0, x1, height))
    return np.asarray(across.resize((size[1], size[0]), FILTERS[name], (0, y0, size[1], y1)))


def picture(shape: tuple[int, ...], dtype: str, seed: int = 0) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    if dtype == "uint8":
        return rng.integers(0, 256, shape).astype(np.uint8)
    return rng.normal(100, 80, shape).astype(np.float32)


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("channels", [(), (1,), (3,), (16,)])
def test_resize_gives_the_bits_of_pillow(
    place: str, name: str, dtype: str, channels: tuple[int, ...]
) -> None:
    array = picture((37, 52, *channels), dtype)
    for size in [(37, 52), (74, 104), (16, 16), (37, 20), (80, 52), (1, 1), (5, 300)]:
        for box in [None, (0, 0, 52, 37), (3.25, 1.5, 40.75, 30.1), (51, 36, 52, 37), (0.1, 0, 0.2, 0.3)]:
            got = back(_core.resize(there(place, array), size, box=box, filter=name))
            np.testing.assert_array_equal(got, pillow(array, size, box, name), err_msg=f"{size} {box}")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_resize_of_any_size_and_box(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 60))
    size = (data.draw(st.integers(1, 70)), data.draw(st.integers(1, 70)))

    def part(extent: int) -> tuple[float, float]:
        low = data.draw(st.floats(0, extent - 0.5, width=32))
        return low, data.draw(st.floats(low + 0.25, extent))

    (x0, x1), (y0, y1) = part(width), part(height)
    box = tuple(float(np.float32(value)) for value in (x0, y0, min(x1, width), min(y1, height)))
    name, dtype = (
        data.draw(st.sampled_from(sorted(FILTERS))),
        data.draw(st.sampled_from(["uint8", "float32"])),
    )
    array = picture((height, width), dtype, data.draw(st.integers(0, 1000)))
    np.testing.assert_array_equal(
        _core.resize(array, size, box=box, filter=name), pillow(array, size, box, name)
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((np.zeros((2, 2), np.float64), (2, 2)), "uint8 or float32"),
        ((np.zeros(4, np.uint8), (2, 2)), "must be"),
        ((np.zeros((0, 2), np.uint8), (2, 2)), "must be"),
        ((np.zeros((2, 2), np.uint8), (0, 2)), "size must be"),
        ((np.zeros((2, 2), np.uint8), (2,)), "size must be"),
        ((np.zeros((2, 2), np.uint8), (2, 2**40)), "size must be"),
    ],
)
def test_resize_refuses(arguments: tuple[Any, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        _core.resize(*arguments)


@pytest.mark.parametrize(
    "box", [(-1, 0, 2, 2), (0, 0, 3, 2), (1, 0, 1, 2), (0, 2, 2, 1), (np.nan, 0, 2, 2), (0, 0, np.inf, 2)]
)
def test_resize_refuses_boxes_outside(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(InputError, match="box"):
        _core.resize(np.zeros((2, 2), np.uint8), (3, 3), box=box)
    with pytest.raises(InputError, match="filter"):
        _core.resize(np.zeros((2, 2), np.uint8), (3, 3), filter="lanczos")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(8, 16), (5, 7)])  # with 16-byte accesses and without
@pytest.mark.parametrize("holes", [False, True])
def test_normalise(place: str, dtype: str, size: tuple[int, int], holes: bool) -> None:
    pixels = picture((2, *size, 3), "uint8")
    hole = np.random.default_rng(1).random((2, *size)) < 0.3 if holes else None
    wanted = pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(127.5) - np.float32(1)
    if hole is not None:
        wanted = wanted * ~hole[:, None]
    got = back(
        _core.normalise(there(place, pixels), None if hole is None else there(place, hole), dtype=dtype)
    )
    rounded = torch.from_numpy(np.ascontiguousarray(wanted)).to(DTYPES[dtype])
    view = rounded.view(torch.int16).numpy().view(got.dtype) if dtype == "bfloat16" else rounded.numpy()
    np.testing.assert_array_equal(got.view(np.uint16), view.view(np.uint16))


def test_normalise_repeats_one_channel(place: str) -> None:
    depth = picture((2, 6, 8, 1), "uint8")
    got = back(_core.normalise(there(place, depth), divisor=255, offset=0))
    wanted = np.repeat(depth.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255), 3, axis=1)
    np.testing.assert_array_equal(got, wanted)
    assert back(_core.normalise(there(place, depth), channels=1)).shape == (2, 1, 6, 8)


@pytest.mark.parametrize("divisor", [255, 3.3, -7e-5, 1e30, 1e-42, 3e38, np.inf, np.nan])
def test_normalise_by_any_divisor(place: str, divisor: float) -> None:
    pixels = np.arange(3 * 256, dtype=np.uint8).reshape(1, 16, 16, 3)
    with np.errstate(all="ignore"):
        wanted = pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(divisor) - np.float32(0.5)
    got = _core.normalise(there(place, pixels), divisor=divisor, offset=0.5)
    np.testing.assert_array_equal(back(got), wanted)


@pytest.mark.parametrize("size", [(600_001, 1), (1, 600_001)])
def test_more_rows_than_a_grid_has_blocks(place: str, size: tuple[int, int]) -> None:
    array = picture((*size, 3), "uint8")
    got = _core.pad_edge(there(place, array), (size[0] + 1, size[1] + 1), 0, 0)
    np.testing.assert_array_equal(back(got), np.pad(array, ((0, 1), (0, 1), (0, 0)), mode="edge"))


def test_normalise_refuses() -> None:
    pixels = np.zeros((1, 2, 2, 3), np.uint8)
    wrong: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((pixels[0],), {}),
        ((pixels.astype(np.float32),), {}),
        ((pixels, np.zeros((1, 2, 3), bool)), {}),
        ((pixels, np.zeros((1, 2, 2), np.float32)), {}),
        ((pixels,), {"channels": 2}),
        ((pixels,), {"channels": 0}),
        ((pixels,), {"divisor": 0}),
        ((pixels,), {"dtype": "int32"}),
        ((pixels,), {"dtype": "complex"}),
    ]
    for arguments, options in wrong:
        with pytest.raises(InputError):
            _core.normalise(*arguments, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(8, 16), (5, 7)])
def test_colours(place: str, dtype: str, size: tuple[int, int]) -> None:
    planes = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (2, 3, *size))).to(DTYPES[dtype])
    planes[0, 0, 0, :2] = torch.tensor([np.nan, np.inf])
    if place == "cpu" and dtype == "bfloat16":
        pytest.skip("NumPy has no bfloat16; tests/cpp covers it")
    where = moved(place, planes)
    wanted = planes.float().permute(0, 2, 3, 1).numpy() * np.float32(127.5) + np.float32(127.5)
    np.testing.assert_array_equal(back(_core.colours(where)), np.clip(wanted, 0, 255))


def test_colours_refuse() -> None:
    for planes in (
        np.zeros((1, 4, 2, 2), np.float32),
        np.zeros((3, 2, 2), np.float32),
        np.zeros((1, 3, 2, 2)),
    ):
        with pytest.raises(InputError):
            _core.colours(planes)


@pytest.mark.parametrize("size", [(64, 64), (37, 53), (4, 4), (1, 9), (128, 3)])
@pytest.mark.parametrize("share", [0.0, 0.4, 0.97, 1.0])
def test_colour_match_is_numpys(place: str, size: tuple[int, int], share: float) -> None:
    rng = np.random.default_rng(7)
    original = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    colours = np.clip(original + rng.normal(4, 12, (*size, 3)), 0, 255).astype(np.float32)
    hole = np.zeros(size, bool)
    hole[: round(size[0] * share)] = share > 0
    hole |= rng.random(size) < share / 4
    if share == 1.0:
        hole[:] = True
    got = back(_core.match_colours(there(place, colours), there(place, original), there(place, hole)))
    # float32 rounding of values up to 255.
    np.testing.assert_allclose(got, match_colours(colours, original, hole), rtol=0, atol=1e-4)
    if share == 1.0:
        np.testing.assert_array_equal(got, colours)


def test_colour_match_refuses() -> None:
    colours, original, hole = (
        np.zeros((4, 5, 3), np.float32),
        np.zeros((4, 5, 3), np.uint8),
        np.zeros((4, 5), bool),
    )
    wrong: list[tuple[Any, Any, Any]] = [
        (colours[..., :2], original, hole),
        (original, original, hole),
        (colours, original[1:], hole),
        (colours, colours, hole),
        (colours, original, hole[1:]),
        (colours, original, hole.astype(np.float32)),
        (colours[:0], original[:0], hole[:0]),
    ]
    for arguments in wrong:
        with pytest.raises(InputError):
            _core.match_colours(*arguments)


def test_all_finite(place: str) -> None:
    values = np.arange(1000, dtype=np.float32)
    assert _core.all_finite(there(place, values))
    for bad in (np.nan, np.inf, -np.inf):
        values[777] = bad
        assert not _core.all_finite(there(place, values))
    with pytest.raises(InputError, match="float32"):
        _core.all_finite(np.zeros(3))
