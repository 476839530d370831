"""The pipeline's operations on device arrays equal those on the host; a whole repair through them too."""

import hoirt
import numpy as np
import pytest
from hoirt import _core
from hoirt.backends.devices import open_device
from hoirt.errors import HoirtError, InputError
from hoirt.hands.window import Window
from hoirt.pipeline import models as opening
from hoirt.pipeline.arrays import HostArrays
from hoirt.pipeline.device_arrays import DeviceArrays

RNG = np.random.default_rng(0)
HOST = HostArrays()


@pytest.fixture(params=["cpu", "cuda:0"])
def arrays(request):
    try:
        return DeviceArrays(open_device(request.param))
    except HoirtError as error:
        pytest.skip(f"no {request.param} here: {error}")


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def pixels(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def equal(arrays, found, expected, tolerance=0.0):
    values = arrays.get(found)
    assert values.shape == expected.shape and values.dtype == expected.dtype
    if tolerance:
        np.testing.assert_allclose(values, expected, rtol=tolerance, atol=tolerance)
    else:
        np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_join_and_split(arrays, axis):
    shapes = [[2, 3, 4], [2, 3, 4], [2, 3, 4]]
    for shape, extent in zip(shapes, (1, 5, 2), strict=True):
        shape[axis] = extent
    parts = [floats(*shape) for shape in shapes]
    equal(arrays, arrays.join(parts, axis), np.concatenate(parts, axis))
    if axis == 0:
        whole = arrays.join(parts)
        for found, expected in zip(arrays.split(whole, [1, 5, 2]), parts, strict=True):
            equal(arrays, found, expected)
        equal(arrays, arrays.item(whole, 3), np.concatenate(parts)[3])


def test_copies_are_apart(arrays):
    first = arrays.put(pixels(4, 5, 3))
    second = arrays.copy(first)
    before = arrays.get(first).copy()
    arrays.paste(second, np.full((2, 2, 3), 7, np.float32), np.ones((2, 2), np.float32), 1, 1)
    equal(arrays, first, before)
    assert (arrays.get(second)[1:3, 1:3] == 7).all()


@pytest.mark.parametrize(
    "window", [Window(3, 4, 20, 30), Window(-10, -6, 64, 64), Window(30, 20, 40, 40), Window(0, 0, 50, 40)]
)
def test_windows(arrays, window):
    picture = pixels(40, 50, 3)
    windows = [window, Window(5, 5, 16, 16)]
    equal(arrays, arrays.look(arrays.put(picture), windows, (32, 24)), HOST.look(picture, windows, (32, 24)))


def test_planes_hints_latents_and_colours(arrays):
    pictures, holes = pixels(2, 16, 24, 3), RNG.random((2, 16, 24)) < 0.3
    equal(arrays, arrays.planes(arrays.put(pictures), holes), HOST.planes(pictures, holes))
    depths = pixels(2, 16, 24)
    equal(arrays, arrays.hint(depths), HOST.hint(depths))
    mean, logvar, noise = (floats(2, 4, 5, 3) for _ in range(3))
    equal(
        arrays, arrays.sample(mean, logvar, noise, 0.18215), HOST.sample(mean, logvar, noise, 0.18215), 1e-6
    )
    equal(arrays, arrays.sample(mean, logvar, None, 0.18215), HOST.sample(mean, logvar, None, 0.18215))
    equal(arrays, arrays.unscaled(mean, 0.18215), HOST.unscaled(mean, 0.18215))
    decoded = floats(2, 3, 16, 24)
    colours = HOST.colours(decoded)
    equal(arrays, arrays.colours(decoded), colours)
    matched = arrays.match_colours(colours[0], pictures[0], holes[0])
    equal(arrays, matched, HOST.match_colours(colours[0], pictures[0], holes[0]), 1e-3)
    assert arrays.finite(decoded)
    decoded[1, 2, 3, 4] = np.nan
    assert not arrays.finite(decoded)


@pytest.mark.parametrize("place", [(0, 0), (3, 5), (9, 10)])
def test_paste(arrays, place):
    picture, patch = pixels(16, 20, 3), np.abs(floats(7, 9, 3)) * 90
    alpha = RNG.random((7, 9)).astype(np.float32)
    expected, found = picture.copy(), arrays.put(picture.copy())
    HOST.paste(expected, patch, alpha, *place)
    arrays.paste(found, patch, alpha, *place)
    equal(arrays, found, expected)
    box = (0.5, 1.0, 8.5, 6.0)
    equal(arrays, arrays.resize(patch, (11, 4), box), HOST.resize(patch, (11, 4), box))


def test_wrong_arguments(arrays):
    with pytest.raises(InputError):
        arrays.device.copy(arrays.put(floats(3)), arrays.put(floats(4)))
    with pytest.raises(InputError):
        arrays.put(floats(3, 2)).rows(1, 4)
    with pytest.raises(InputError):
        arrays.put(floats(3, 2)).reshape((4, 2))
    with pytest.raises(InputError):
        _core.pad_edge(arrays.put(pixels(4, 4, 3)), (3, 8), 0, 0)
    with pytest.raises(InputError):
        _core.sample_posterior(arrays.put(floats(3)), None, arrays.put(floats(3)))


@pytest.mark.parametrize("options", [{}, {"region": "frame"}, {"faithful": True}, {"strength": "adaptive"}])
def test_a_repair_on_device_arrays(monkeypatch, options):
    """The whole pipeline on the CPU's device: what the networks give is the same, so the picture is."""
    picture = pixels(128, 128, 3)
    boxes = [(20.0, 20.0, 76.0, 76.0), (60.0, 70.0, 120.0, 120.0)]
    call = {"hands": boxes, "steps": 2, "prompt": "a hand", **options}
    expected = hoirt.Refiner(precision="fp32")(picture, **call)
    monkeypatch.setattr(opening, "_arrays", lambda device: DeviceArrays(open_device(device)))
    found = hoirt.Refiner(precision="fp32")(picture, **call)
    assert found.strength == expected.strength
    difference = np.abs(found.image.astype(int) - expected.image.astype(int))
    assert difference.max() <= 1 and (difference == 0).mean() > 0.98
    np.testing.assert_array_equal(found.mask, expected.mask)
