"""The pipeline's operations on device arrays equal those on the host; a whole repair through them too."""

from collections import Counter

import hoirt
import numpy as np
import pytest
from hoirt import _core
from hoirt.backends.devices import open_device
from hoirt.errors import HoirtError, InputError
from hoirt.hands.hand import Camera, Hand
from hoirt.hands.render import draw_depth, metric_depth
from hoirt.hands.window import Window
from hoirt.pipeline import models as opening
from hoirt.pipeline.arrays import HostArrays
from hoirt.pipeline.device_arrays import DeviceArrays
from hoirt.render.encode import hand_depth
from repair_cases import BOXES, DEPTH, MASK, REPAIRS

RNG = np.random.default_rng(0)
HOST = HostArrays()


@pytest.fixture(autouse=True)
def the_same_numbers_in_any_order():
    RNG.bit_generator.state = np.random.default_rng(0).bit_generator.state


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
    equal(arrays, matched, HOST.match_colours(colours[0], pictures[0], holes[0]))
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


def hands(*regions):
    """Triangles that cross each other, nearer and nearer."""
    made = []
    for index, region in enumerate(regions):
        turn = np.array([[np.cos(index), -np.sin(index)], [np.sin(index), np.cos(index)]])
        flat = np.array([[-0.1, -0.1], [0.12, -0.05], [0.0, 0.12]]) @ turn.T
        vertices = np.column_stack([flat, [0.9 - 0.1 * index, 1.0, 1.1]]).astype(np.float32)
        faces = np.array([[0, 2, 1]] if index == 1 else [[0, 2, 1], [2, 0, 1]], np.int32)
        nothing = np.zeros((21, 3), np.float32)
        camera = Camera(190.0, 200.0, 24.5, 21.0)
        made.append(
            Hand((4.0, 4, 44, 40), 1.0, "right", nothing[:, :2], nothing, vertices, faces, camera, region)
        )
    return made


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_hands_are_drawn(arrays, count):
    """Against the rasteriser and the encoder, hand after hand."""
    window, size, given = Window(2, -3, 48, 40), (60, 72), hands(*[None] * count)
    expected = np.zeros(size, np.uint8)
    if given:
        far_to_near = sorted(given, key=lambda hand: hand.apparent_scale)
        metric = np.stack([metric_depth(hand, window, size) for hand in far_to_near])
        expected = hand_depth(metric[None], rounding="nearest")[0]
    assert expected.any() == (count > 0)
    for found in (draw_depth(given[::-1], window, size, arrays.device), draw_depth(given, window, size)):
        equal(arrays, found, expected)


def test_meshes_are_checked_before_they_go_to_a_device(arrays):
    (hand,) = hands(None)
    view = {"intrinsics": [hand.camera], "size": (8, 8), "device": arrays.device}
    far = hand.vertices.copy()
    for value in (np.nan, np.inf, -np.inf, np.float32(2e30)):
        far[1, 2] = value
        with pytest.raises(InputError, match="vertex 1"):
            _core.draw_depth([(far, hand.faces)], **view)
    for mesh, words in [
        ((hand.vertices, hand.faces + 1), "names the vertex"),
        ((hand.vertices, hand.faces[0]), "faces must"),
        ((hand.vertices[:, :2], hand.faces), "vertices must"),
        ((hand.vertices[None], hand.faces), "vertices must"),
        ((hand.vertices.astype(np.float16), hand.faces), "vertices must"),
        ((hand.vertices, hand.faces.astype(np.float32)), "faces must"),
    ]:
        with pytest.raises(InputError, match=words):
            _core.draw_depth([mesh], **view)
    for wrong in (
        {"size": (0, 8)},
        {"size": (8, 8193)},
        {"intrinsics": [(0.0, 1, 1, 1)]},
        {"intrinsics": []},
    ):
        with pytest.raises(InputError):
            _core.draw_depth([(hand.vertices, hand.faces)], **{**view, **wrong})
    with pytest.raises(InputError, match="at least one"):
        _core.draw_depth([], **view)


@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize("window", [Window(3, 4, 20, 30), Window(-10, -6, 64, 64), Window(30, 20, 40, 40)])
def test_maps_are_looked_at(arrays, window, smooth):
    whole = pixels(40, 50)
    expected = HOST.look_at(whole, window, (32, 24), smooth=smooth)
    equal(arrays, arrays.look_at(arrays.put(whole), window, (32, 24), smooth=smooth), expected)


@pytest.mark.parametrize(
    ("crop", "window"),
    [
        (Window(4, 5, 40, 40), Window(4, 5, 40, 40)),
        (Window(-7, 3, 33, 33), Window(0, 0, 50, 41)),
        (Window(0, 0, 9, 9), Window(30, 30, 20, 20)),
    ],
)
def test_hands_are_seen(arrays, crop, window):
    region = RNG.random((7, 9)).astype(np.float32)
    region[2, 3], region[3, 3] = np.nan, 0.5
    for hand in hands(region, None):
        expected = pixels(29, 37) // 250
        found = arrays.copy(arrays.put(expected))
        HOST.see(expected, hand, crop, window)
        arrays.see(found, hand, crop, window)
        equal(arrays, found, expected)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_masks(arrays, share):
    mask = RNG.random((32, 48)) < share
    there = arrays.put(mask)
    assert arrays.any(there) == mask.any()
    for radius in (0, 1, 7, 100):
        equal(arrays, arrays.grow(there, radius), HOST.grow(mask, radius))
        equal(arrays, arrays.grow(mask * np.uint8(9), radius), HOST.grow(mask, radius))
    for width in (0.0, 0.7, 1.0, 5.3, 90.0):
        for fade in (True, False):
            soft = arrays.soften(there, width, fade_at_border=fade)
            equal(arrays, soft, HOST.soften(mask, width, fade_at_border=fade))
    both = arrays.stack([mask, there])
    equal(arrays, both, np.stack([mask, mask]))
    for factor in (1, 8, 16):
        equal(arrays, arrays.touched(both, factor), HOST.touched(np.stack([mask, mask]), factor))


def test_a_single_pixel_is_found(arrays):
    for at in ((0, 0), (30, 16), (60, 40)):
        mask = np.zeros((61, 41), bool)
        assert not arrays.any(arrays.put(mask))
        mask[at] = True
        assert arrays.any(arrays.put(mask))


def test_parts_of_maps(arrays):
    equal(arrays, arrays.zeros((5, 7)), np.zeros((5, 7), np.uint8))
    whole, rows, columns = pixels(30, 41), slice(3, 20), slice(11, 40)
    equal(arrays, arrays.part(arrays.put(whole), rows, columns), HOST.part(whole, rows, columns))
    for size in ((17, 29), (8, 9), (40, 70)):
        part = pixels(*size) // np.uint8(128) * np.uint8(77)
        expected, found = whole.copy(), arrays.copy(arrays.put(whole))
        HOST.lay(expected, part, rows, columns)
        arrays.lay(found, arrays.put(part), rows, columns)
        equal(arrays, found, expected)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_opacity_is_cut(arrays, share):
    inside, opacity = (
        (RNG.random((9, 13)) < share).astype(np.float32),
        RNG.random((16, 16)).astype(np.float32),
    )
    inside[0, :2] = 0.5, np.nextafter(np.float32(0.5), np.float32(1))
    box, expected = (1.5, 0.0, 14.25, 11.0), pixels(20, 20) // 200
    found = arrays.copy(arrays.put(expected))
    alpha = HOST.cut(inside, opacity, box, expected, 4, 6)
    equal(arrays, arrays.cut(inside, arrays.put(opacity), box, found, 4, 6), alpha, 1e-6)
    equal(arrays, found, expected)
    assert HOST.cut(inside * 0, opacity, box, expected, 4, 6) is None
    assert not arrays.get(arrays.cut(inside * 0, opacity, box, found, 4, 6)).any()
    equal(arrays, found, expected)


def test_wrong_maps(arrays):
    whole, floats_ = arrays.put(pixels(8, 9)), floats(4, 4)
    for top, left in ((-1, 0), (0, -1), (5, 0), (0, 6), (2**62, 0), (0, -(2**62))):
        with pytest.raises(InputError, match="part must lie"):
            _core.lay_into(whole, pixels(4, 4), top, left)
        with pytest.raises(InputError, match="part must lie"):
            _core.cut_into(whole, floats_, floats_, top, left)
    for part in (floats(4, 4), pixels(4, 4, 3), pixels(0, 4), np.zeros((4, 4), bool)):
        with pytest.raises(InputError, match="part must be"):
            _core.lay_into(whole, part, 0, 0)
    for inside, opacity in ((pixels(4, 4), floats_), (floats_, floats(4, 5)), (floats(4), floats(4))):
        with pytest.raises(InputError, match="must be float32"):
            _core.cut_into(whole, inside, opacity, 0, 0)
    for target in (arrays.put(floats(8, 9)), arrays.put(pixels(8, 9, 3))):
        with pytest.raises(InputError, match="map must be"):
            _core.lay_into(target, pixels(4, 4), 0, 0)
        with pytest.raises(InputError, match="map must be"):
            _core.look_up_into(target, floats_, (0, 0, 4, 4), (0, 0, 4, 4))
    for region, crop in ((pixels(4, 4), (0, 0, 4, 4)), (floats(4), (0, 0, 4, 4)), (floats_, (0, 0, 0, 4))):
        with pytest.raises(InputError):
            _core.look_up_into(whole, region, crop, (0, 0, 4, 4))
    with pytest.raises(InputError, match="mask must be"):
        _core.any_set(floats_)


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


@pytest.mark.parametrize("options", REPAIRS.values(), ids=REPAIRS)
def test_a_repair_on_device_arrays(monkeypatch, options):
    """The whole pipeline on the CPU's device: what the networks give is the same, so the picture is."""
    picture = pixels(128, 128, 3)
    call = {"hands": BOXES, "steps": 2, "prompt": "a hand", **options}
    expected = hoirt.Refiner(precision="fp32")(picture, **call)
    monkeypatch.setattr(opening, "_arrays", lambda device: DeviceArrays(open_device(device)))
    found = hoirt.Refiner(precision="fp32")(picture, **call)
    assert found.strength == expected.strength
    difference = np.abs(found.image.astype(int) - expected.image.astype(int))
    assert difference.max() <= 1 and (difference == 0).mean() > 0.98
    assert found.status == expected.status
    for name in ("mask", "depth"):
        values, wanted = getattr(found, name), getattr(expected, name)
        assert isinstance(values, np.ndarray) and values.dtype == wanted.dtype
        np.testing.assert_array_equal(values, wanted, err_msg=name)


@pytest.mark.parametrize("options", [{}, {"mask": MASK, "depth": DEPTH}], ids=["found", "told"])
def test_what_a_repair_waits_for(monkeypatch, options):
    """Whether masks are empty, whether colours are finite, and the result: nothing else comes back."""
    waits = Counter()
    for name in ("get", "any", "finite"):
        usual = getattr(DeviceArrays, name)

        def counted(self, array, name=name, usual=usual):
            waits[name] += 1
            return usual(self, array)

        monkeypatch.setattr(DeviceArrays, name, counted)
    monkeypatch.setattr(opening, "_arrays", lambda device: DeviceArrays(open_device(device)))
    boxes = [(20.0, 20.0, 60.0, 60.0), (60.0, 60.0, 110.0, 110.0)]
    result = hoirt.Refiner(precision="fp32")(pixels(128, 128, 3), hands=boxes, steps=1, **options)
    assert result.status == "refined"
    assert waits == {"any": 2, "finite": 1, "get": 3}
