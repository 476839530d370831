"""The kernels on pictures of _core_cuda on raw addresses: the bits of _core's, at any alignment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from device_tools import back, device, shifted
from hoirt import InputError, _core
from numpy.typing import NDArray

from bench.gpu.kernels import picture_kernels

PLACE = "cuda:0"
SHIFTS = (0, 1, 2, 3)


def there(array: NDArray[Any], shift: int = 0) -> Any:
    return shifted(PLACE, array, shift)


def stream() -> int:
    return int(device(PLACE).stream())


def some_bytes(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, np.uint8)


def some_floats(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(sum(shape)).random(shape, np.float32) * 255


def workspace(size: int) -> Any:
    """So many bytes on the device and no more, full of what nobody may take for zeros."""
    return there(np.full(max(size, 1), 0xA5, np.uint8))


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("filter", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_resize(cuda: Any, dtype: str, filter: str, shift: int) -> None:
    for channels in (1, 3, 5):
        array = some_bytes(23, 31, channels) if dtype == "uint8" else some_floats(23, 31, channels)
        for size in ((23, 31), (23, 50), (9, 31), (40, 13)):
            for box in (None, (2.5, 1.25, 29.0, 20.0)):
                options: Any = {"size": (23, 31), "out_size": size, "channels": channels, "dtype": dtype}
                options |= {"box": box, "filter": filter}
                resize = cuda.Resize(**options)
                space = workspace(resize.workspace_bytes)
                given, out = there(array, shift), there(np.zeros((*size, channels), dtype), shift)
                resize.launch(given.address, out.address, workspace=space.address, stream=stream())
                np.testing.assert_array_equal(back(out), _core.resize(array, size, box=box, filter=filter))


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_normalise_and_colours(cuda: Any, dtype: str, shift: int) -> None:
    shape = (2, 13, 22)
    pixels, holes = some_bytes(*shape, 3), some_bytes(*shape) < 99
    given, marks = there(pixels, shift), there(holes.view(np.uint8), shift)
    for hole, address in ((None, 0), (holes, marks.address)):
        planes = there(np.zeros((2, 3, 13, 22), dtype), shift)
        cuda.normalise(
            given.address, planes.address, address, shape=(*shape, 3), dtype=dtype, stream=stream()
        )
        wanted = _core.normalise(pixels, hole, dtype=dtype)
        np.testing.assert_array_equal(back(planes), wanted)
    out = there(np.zeros((*shape, 3), np.float32), shift)
    cuda.colours(planes.address, out.address, shape=shape, scale=100.0, dtype=dtype, stream=stream())
    np.testing.assert_array_equal(back(out), _core.colours(wanted, scale=100.0))
    grey = some_bytes(*shape, 1)
    given = there(grey)
    cuda.normalise(
        given.address, planes.address, shape=(*shape, 1), divisor=255.0, offset=0.0,
        dtype=dtype, stream=stream(),
    )  # fmt: skip
    wanted = _core.normalise(grey, divisor=255.0, offset=0.0, dtype=dtype)
    np.testing.assert_array_equal(back(planes), wanted)


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("size", [(1, 1), (5, 4), (13, 22), (64, 96), (3, 200)])
def test_match_colours(cuda: Any, size: tuple[int, int], shift: int) -> None:
    decoded, original = some_floats(*size, 3), some_bytes(*size, 3)
    for hole in (np.zeros(size, np.uint8), (some_bytes(*size) < 99).view(np.uint8), np.ones(size, np.uint8)):
        wanted = _core.match_colours(decoded, original, hole)
        space = workspace(cuda.match_colours_workspace(size))
        colours, bytes_, marks = there(decoded, shift), there(original, shift), there(hole, shift)
        apart = there(np.zeros((*size, 3), np.float32), (shift + 1) % 4)
        for out in (apart, colours):
            cuda.match_colours(
                colours.address, bytes_.address, marks.address, out.address,
                size=size, workspace=space.address, stream=stream(),
            )  # fmt: skip
            np.testing.assert_array_equal(back(out), wanted)


def test_wrong_arguments_are_refused(cuda: Any) -> None:
    halved: Any = {"size": (8, 8), "out_size": (4, 4), "channels": 3, "dtype": "uint8"}
    for address in (0, 16):
        with pytest.raises(InputError, match=r"multiple of 256.*workspace_bytes"):
            cuda.Resize(**halved).launch(16, 16, workspace=address)
    for wrong, words in [
        ({"size": (0, 8)}, "must lie in 1..2"),
        ({"out_size": (4, 2**21)}, "must lie in 1..2"),
        ({"channels": -1}, "must lie in 1..2"),
        ({"dtype": "float16"}, "uint8 or float32"),
        ({"dtype": "red"}, "red"),
        ({"filter": "lanczos"}, "lanczos"),
        ({"box": (0, 0, 9, 8)}, "box"),
        ({"box": (float("nan"), 0, 8, 8)}, "box"),
        ({"box": (0, 0, 8)}, "box"),
    ]:
        with pytest.raises(InputError, match=words):
            cuda.Resize(**{**halved, **wrong})
    with pytest.raises(InputError, match="device addresses"):
        cuda.Resize(**halved).launch(0, 16, workspace=256)
    with pytest.raises(InputError, match=r"multiple of 256.*match_colours_workspace"):
        cuda.match_colours(16, 16, 16, 16, size=(4, 4), workspace=0)
    with pytest.raises(InputError, match="device addresses"):
        cuda.match_colours(16, 16, 0, 16, size=(4, 4), workspace=256)
    with pytest.raises(InputError, match="must lie in"):
        cuda.match_colours_workspace((4, 0))
    with pytest.raises(InputError, match="device addresses"):
        cuda.colours(0, 16, shape=(1, 4, 4))
    for wrong, words in [
        ({"shape": (1, -4, 4, 3)}, "must lie in"),
        ({"shape": (2**20, 2**20, 2, 1)}, "at most 2.40 values"),
        ({"shape": (4, 4)}, r"shape must be \(N, H, W, C\)"),
        ({"divisor": 0.0}, "divisor"),
        ({"channels": 5}, "channels"),
        ({"shape": (1, 4, 4, 2)}, "channels"),
        ({"dtype": "uint8"}, "float32, float16 or bfloat16"),
    ]:
        with pytest.raises(InputError, match=words):
            cuda.normalise(16, 16, **{"shape": (1, 4, 4, 3), **wrong})


def test_nothing_is_needed_where_nothing_changes(cuda: Any) -> None:
    assert cuda.Resize(size=(8, 9), out_size=(8, 9), channels=1, dtype="uint8").workspace_bytes == 0


def test_those_that_the_bench_measures(cuda: Any) -> None:
    side = 16
    for kernel in picture_kernels(cuda, PLACE, side):
        kernel.launch(stream())
        out = back(kernel.out)
        assert np.isfinite(out).all() and out.any()
        assert kernel.least > out.nbytes
