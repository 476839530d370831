"""Too little memory, on a GPU that the CPU plays: what is kept for later goes before a picture fails."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import SimpleNamespace

import hoirt
import numpy as np
import played_cuda
import pytest
from device_tools import device
from hoirt import OutOfMemory
from hoirt.backends import idle
from hoirt.render import clip
from numpy.typing import NDArray
from repair_cuda_tools import NEEDS_PLAYED_GPU, noise

pytest_plugins = ["repair_cuda_tools"]
pytestmark = NEEDS_PLAYED_GPU
MOST = 192  # pixels a side


def repair(gpu: hoirt.Refiner, side: int) -> NDArray[np.uint8]:
    box = (20.0, 20.0, side - 20.0, side - 20.0)
    image = gpu(noise(side, side), hands=[box], region="frame", steps=3).image
    assert isinstance(image, np.ndarray)
    return image


def free() -> int:
    """Bytes of the device."""
    device("cuda:0").synchronize()
    device("cuda:0").trim()
    return int(device("cuda:0").memory()[0])


@pytest.fixture
def kept(gpu: hoirt.Refiner) -> int:
    """Bytes that calls of several sizes left for later ones."""
    gpu.unload()
    gc.collect()  # what other tests left behind
    before = free()
    for side in (128, 144, 160):
        repair(gpu, side)
    return before - free()


@pytest.fixture
def wanted(gpu: hoirt.Refiner) -> Iterator[NDArray[np.uint8]]:
    yield repair(gpu, MOST)
    np.testing.assert_array_equal(repair(gpu, MOST), repair(gpu, MOST))


def test_what_is_kept_makes_room(gpu: hoirt.Refiner, wanted: NDArray[np.uint8], kept: int) -> None:
    with played_cuda.limit(kept):
        np.testing.assert_array_equal(repair(gpu, MOST), wanted)


def test_without_that_there_is_none(
    gpu: hoirt.Refiner, wanted: NDArray[np.uint8], kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule that the others are about."""
    monkeypatch.setattr("hoirt.memory.free_idle", lambda _: None)
    with played_cuda.limit(kept), pytest.raises(OutOfMemory, match="cuda:0 cannot give"):
        repair(gpu, MOST)
    np.testing.assert_array_equal(repair(gpu, MOST), wanted)


def test_other_refiners_give_theirs(gpu: hoirt.Refiner, wanted: NDArray[np.uint8], kept: int) -> None:
    from repair_cuda_tools import on_gpu

    with played_cuda.limit(kept):
        np.testing.assert_array_equal(repair(on_gpu("handrefiner-tiny"), MOST), wanted)


def test_a_device_that_is_too_small(gpu: hoirt.Refiner, wanted: NDArray[np.uint8], kept: int) -> None:
    with played_cuda.limit(1), pytest.raises(OutOfMemory, match="cuda:0 cannot give"):
        repair(gpu, 2 * MOST)
    np.testing.assert_array_equal(repair(gpu, MOST), wanted)


def test_calls_under_way_go_on(gpu: hoirt.Refiner, wanted: NDArray[np.uint8], kept: int) -> None:
    """What they have stays, graphs too, whoever gives back what is idle meanwhile."""
    box = (20.0, 20.0, MOST - 20.0, MOST - 20.0)

    def on_step(info: hoirt.StepInfo) -> None:
        repair(gpu, 128)
        idle.free_idle(device("cuda:0"))

    result = gpu(noise(MOST, MOST), hands=[box], region="frame", steps=3, on_step=on_step)
    np.testing.assert_array_equal(result.image, wanted)


def test_the_rasteriser_finds_room(gpu: hoirt.Refiner, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    corners = np.array([[-1, -1, 2], [1, -1, 2], [0, 1, 2]], np.float32)
    vertices = device("cuda:0").upload(corners)
    draw = clip._rasterizer([SimpleNamespace(vertices=vertices)], "hoirt")

    def depth() -> NDArray[np.float32]:
        camera = np.array([128, 128, 64, 64], np.float32)
        faces = np.array([[0, 1, 2]], np.int32)
        drawn = draw(vertices, faces, intrinsics=camera, size=(128, 128), outputs=["depth"])["depth"]
        return np.asarray(drawn.numpy())

    wanted = depth()
    assert wanted.max() == 2
    free()
    with played_cuda.limit(1):
        with monkeypatch.context() as patch, pytest.raises(OutOfMemory, match="CUDA: no device memory"):
            patch.setattr("hoirt.memory.free_idle", lambda _: None)
            depth()
        np.testing.assert_array_equal(depth(), wanted)
