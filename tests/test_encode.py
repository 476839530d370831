"""Encoders against float64 NumPy, matplotlib and the references' traps; bad input."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import pytest
from hoirt import InputError
from hoirt.render.encode import (
    hand_depth,
    normals_picture,
    pam_depth,
    pam_segmentation,
    segmentation_colours,
)
from hoirt.render.palettes import ade20k, inferno
from hypothesis import given, settings
from hypothesis import strategies as st

SEEDS = st.integers(0, 2**32 - 1)
SIDES = st.integers(1, 40)


def random_depth(rng: np.random.Generator, shape: tuple[int, ...], levels: int = 0) -> np.ndarray:
    """Metres with holes; with `levels` only so many different values."""
    depth = rng.uniform(0.2, 3.0, shape)
    if levels:
        depth = 0.2 + np.floor(depth / 3.0 * levels) * 0.1
    return np.where(rng.random(shape) < 0.4, 0.0, depth).astype(np.float32)


def one_hand(depth: np.ndarray, rounding: str, farthest: int = 51) -> np.ndarray:
    """The reference's formula and cast of one hand's own depth map, NaN made 255."""
    z = depth.astype(np.float64)
    out = np.zeros(depth.shape)
    hit = depth > 0
    if hit.any():
        near, far = z[hit].min(), z[hit].max()
        if near == far:
            out[hit] = 1.0
        else:
            out[hit] = 1.0 - ((255 - farthest) / 255) * (z[hit] - near) / (far - near)
    out *= 255
    return (np.rint(out) if rounding == "nearest" else out).astype(np.uint8)


@settings(max_examples=60, deadline=None)
@given(SEEDS, SIDES, SIDES, st.sampled_from(["truncate", "nearest"]), st.sampled_from([0, 51, 128, 255]))
def test_hand_depth_of_a_z_buffer(seed: int, height: int, width: int, rounding: Any, farthest: int) -> None:
    rng = np.random.default_rng(seed)
    depth = random_depth(rng, (3, height, width), int(rng.integers(3)))
    instances = np.where(depth > 0, rng.integers(0, 4, depth.shape), -1).astype(np.int32)
    wanted = np.zeros(depth.shape, np.uint8)
    for frame in range(3):
        for hand in range(4):
            own = instances[frame] == hand
            wanted[frame][own] = one_hand(np.where(own, depth[frame], 0), rounding, farthest)[own]
    got = hand_depth(depth, instances, rounding=rounding, farthest=farthest)
    np.testing.assert_array_equal(got, wanted)


@settings(max_examples=60, deadline=None)
@given(SEEDS, SIDES, SIDES, st.sampled_from(["truncate", "nearest"]), st.sampled_from([0, 51]))
def test_hand_depth_of_hands_one_by_one(
    seed: int, height: int, width: int, rounding: Any, farthest: int
) -> None:
    rng = np.random.default_rng(seed)
    depth = random_depth(rng, (2, 3, height, width), int(rng.integers(3)))
    wanted = np.zeros((2, height, width), np.uint8)
    for frame in range(2):
        for hand in range(3):
            value = one_hand(depth[frame, hand], rounding, farthest)
            wanted[frame][value != 0] = value[value != 0]  # only what is not zero is pasted
    got = hand_depth(depth, rounding=rounding, farthest=farthest)
    np.testing.assert_array_equal(got, wanted)


def test_hand_depth_is_linear_in_z_not_in_disparity() -> None:
    depth = np.array([[0.5, 0.75, 1.0, 0.0]], np.float32)
    np.testing.assert_array_equal(hand_depth(depth, np.zeros_like(depth, np.int32)), [[255, 153, 50, 0]])


def test_truncation_gives_50_where_rounding_gives_51() -> None:
    """255 (1 - 0.8) is 50.99999999999999 in float64, and the reference casts."""
    depth = np.array([[0.5, 0.6, 1.0]], np.float32)
    ids = np.zeros_like(depth, np.int32)
    assert hand_depth(depth, ids)[0, 2] == 50
    assert hand_depth(depth, ids, rounding="nearest")[0, 2] == 51


def test_a_flat_hand_is_255() -> None:
    depth = np.full((1, 2, 2), 0.7, np.float32)
    assert (hand_depth(depth, np.zeros((1, 2, 2), np.int32)) == 255).all()
    assert (hand_depth(depth[None]) == 255).all()


def test_hands_have_ranges_of_their_own_and_frames_too() -> None:
    depth = np.array([[[0.5, 1.0, 5.0, 9.0]], [[2.0, 3.0, 4.0, 6.0]]], np.float32)
    ids = np.array([[[0, 0, 1, 1]]] * 2, np.int32)
    np.testing.assert_array_equal(hand_depth(depth, ids, rounding="nearest"), [[[255, 51, 255, 51]]] * 2)


def test_a_later_hand_covers_an_earlier_one_that_is_nearer() -> None:
    depth = np.array([[[[0.5, 0.6, 0.6]], [[0.0, 1.0, 2.0]]]], np.float32)
    np.testing.assert_array_equal(hand_depth(depth, rounding="nearest"), [[[255, 255, 51]]])


def test_the_range_of_a_covered_hand_is_its_own_only_one_by_one() -> None:
    """The reference's range holds what another hand covers; a z-buffer no longer has it."""
    far_hand, near_hand = [1.0, 1.5, 2.0], [0.0, 0.0, 0.5]
    layers = np.array([[[far_hand], [near_hand]]], np.float32)
    buffer, ids = np.array([[[1.0, 1.5, 0.5]]], np.float32), np.array([[[0, 0, 1]]], np.int32)
    np.testing.assert_array_equal(hand_depth(layers, rounding="nearest"), [[[255, 153, 255]]])
    np.testing.assert_array_equal(hand_depth(buffer, ids, rounding="nearest"), [[[255, 51, 255]]])


@settings(max_examples=60, deadline=None)
@given(SEEDS, SIDES, SIDES, st.sampled_from(["disparity", "depth"]), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_pam_depth_equals_the_formula(
    seed: int, height: int, width: int, normalise: Any, a: float, b: float
) -> None:
    rng = np.random.default_rng(seed)
    depth = random_depth(rng, (3, height, width), int(rng.integers(4)))
    low, high = min(a, b), max(a, b)
    hit = depth > 0
    wanted = np.zeros((*depth.shape, 3), np.uint8)
    if hit.any():
        z = depth[hit].astype(np.float64)
        value = 1.0 / z if normalise == "disparity" else -z
        span = value.max() - value.min()
        t = (value - value.min()) / span if span > 0 else np.ones_like(value)
        index = ((low * (1 - t) + high * t) * 255).astype(int)
        table = np.asarray(matplotlib.colormaps["inferno"].colors)
        wanted[hit] = (table[index] * 255).astype(np.uint8)
    np.testing.assert_array_equal(pam_depth(depth, low, high, normalise=normalise), wanted)


def test_pam_depth_takes_the_range_of_the_clip() -> None:
    depth = np.array([[[1.0, 2.0]], [[2.0, 4.0]]], np.float32)
    clip = pam_depth(depth)
    np.testing.assert_array_equal(clip[:, 0], inferno()[[[255, 85], [85, 0]]])
    assert (pam_depth(depth[1])[0, 0] == inferno()[255]).all()  # alone, the second frame has its own


def test_pam_depth_keeps_the_ends_of_every_range() -> None:
    """No index may be lost to low + (high - low) * 1 < high; 38..213 is what PAM's own clip spans."""
    depth = np.array([[1.0, 2.0]], np.float32)
    for low in range(0, 256, 5):
        for high in range(low, 256):
            picture = pam_depth(depth, low / 255, high / 255, threads=1)
            np.testing.assert_array_equal(picture[0], inferno()[[high, low]])


def test_pam_depth_near_is_bright_and_background_black() -> None:
    depth = np.array([[0.0, 0.5, 1.0, 2.0]], np.float32)
    picture = pam_depth(depth, 38 / 255, 213 / 255)[0].astype(int).sum(axis=-1)
    assert picture[1] > picture[2] > picture[3] > picture[0] == 0


def test_palettes_are_the_public_tables() -> None:
    table = matplotlib.colormaps["inferno"](np.arange(256), bytes=True)[:, :3]
    np.testing.assert_array_equal(inferno(), table)
    import cv2

    theirs = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_INFERNO)[:, 0, ::-1]
    assert np.abs(inferno().astype(int) - theirs).max() <= 1  # OpenCV rounds where the reference cuts
    colours = ade20k()
    assert colours.shape == (151, 3)
    for row, colour in {0: (120, 120, 120), 3: (80, 50, 50), 14: (8, 255, 51), 18: (255, 51, 7)}.items():
        assert tuple(colours[row]) == colour
    for row, colour in {21: (61, 230, 250), 149: (92, 0, 255), 150: (0, 0, 0)}.items():
        assert tuple(colours[row]) == colour
    inferno()[:] = 0  # a copy each time
    assert inferno().any()


@settings(max_examples=30, deadline=None)
@given(SEEDS, SIDES, SIDES, st.sampled_from(["dexycb", "oakink2"]))
def test_pam_segmentation_is_a_table_look_up(seed: int, height: int, width: int, dataset: Any) -> None:
    rng = np.random.default_rng(seed)
    objects = rng.integers(2, 22, 3).tolist()
    instances = rng.integers(-1, 5, (2, height, width)).astype(np.int32)
    picture = pam_segmentation(instances, ["hand", *objects, "hand"], dataset)
    hand = (92, 0, 255) if dataset == "dexycb" else (61, 230, 250)
    shift = 0 if dataset == "dexycb" else 20
    for i, colour in enumerate([(0, 0, 0), hand, *(ade20k()[k + shift] for k in objects), hand], start=-1):
        assert (picture[instances == i] == colour).all()


def test_oakink2_labels_start_at_row_21() -> None:
    """Its palette is ADE20K from row 21, after a black label 0: label 1 is the hand, 2..120 are objects."""
    colours = segmentation_colours(["hand", 2, 120], "oakink2")
    np.testing.assert_array_equal(colours, [[0, 0, 0], ade20k()[21], ade20k()[22], ade20k()[140]])
    np.testing.assert_array_equal(colours[2], (255, 6, 51))


@pytest.mark.parametrize("axes", ["opencv", "opengl"])
def test_normals_picture(axes: Any) -> None:
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(3, 20, 31, 3))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    normals[0, :5] = 0
    normals = normals.astype(np.float32)
    signs = np.array([1, 1, 1] if axes == "opencv" else [1, -1, -1])
    level = (signs * normals.astype(np.float64) + 1) / 2 * 255
    wanted = np.where((normals == 0).all(axis=-1, keepdims=True), 0, np.rint(level))
    picture = normals_picture(normals, axes=axes)
    # float32 may fall on the other side of a half.
    np.testing.assert_array_less(np.abs(picture - level)[wanted != picture], 0.5 + 1e-4)
    assert (wanted != picture).mean() < 1e-3
    assert not picture[0, :5].any()


def test_normals_of_the_axes() -> None:
    facing, right, down = np.eye(3, dtype=np.float32)[[2, 0, 1]] * [[-1], [1], [1]]
    normals = np.stack([facing, right, down]).astype(np.float32)[None]
    np.testing.assert_array_equal(
        normals_picture(normals)[0], [[128, 128, 0], [255, 128, 128], [128, 255, 128]]
    )
    np.testing.assert_array_equal(
        normals_picture(normals, axes="opengl")[0], [[128, 128, 255], [255, 128, 128], [128, 0, 128]]
    )


@pytest.mark.parametrize("threads", [2, 7, 64])
def test_threads_change_nothing(threads: int) -> None:
    rng = np.random.default_rng(1)
    depth = random_depth(rng, (3, 301, 257))
    ids = np.where(depth > 0, rng.integers(0, 9, depth.shape), -1).astype(np.int32)
    normals = np.clip(rng.normal(size=(3, 301, 257, 3)), -1, 1).astype(np.float32)
    for one, many in [
        (hand_depth(depth, ids, threads=1), hand_depth(depth, ids, threads=threads)),
        (hand_depth(depth[None], threads=1), hand_depth(depth[None], threads=threads)),
        (pam_depth(depth, threads=1), pam_depth(depth, threads=threads)),
        (
            pam_segmentation(ids, ["hand", *range(1, 9)], threads=1),
            pam_segmentation(ids, ["hand", *range(1, 9)], threads=threads),
        ),
        (normals_picture(normals, threads=1), normals_picture(normals, threads=threads)),
    ]:
        np.testing.assert_array_equal(one, many)


def test_one_frame_comes_back_as_one_frame() -> None:
    depth, ids = np.ones((4, 5), np.float32), np.zeros((4, 5), np.int32)
    assert hand_depth(depth, ids).shape == (4, 5)
    assert pam_depth(depth).shape == (4, 5, 3)
    assert pam_segmentation(ids, ["hand"]).shape == (4, 5, 3)
    assert normals_picture(np.zeros((4, 5, 3), np.float32)).shape == (4, 5, 3)


@pytest.mark.parametrize("shape", [(0, 4, 5), (2, 0, 5), (2, 4, 0)])
def test_nothing_gives_nothing(shape: tuple[int, int, int]) -> None:
    depth, ids = np.zeros(shape, np.float32), np.zeros(shape, np.int32)
    assert hand_depth(depth, ids).shape == shape
    assert hand_depth(np.zeros((shape[0], 0, *shape[1:]), np.float32)).shape == shape
    assert pam_depth(depth).shape == (*shape, 3)
    assert pam_segmentation(ids, ["hand"]).shape == (*shape, 3)
    assert normals_picture(np.zeros((*shape, 3), np.float32)).shape == (*shape, 3)


def test_nothing_seen_is_black() -> None:
    depth, ids = np.zeros((2, 3, 4), np.float32), np.full((2, 3, 4), -1, np.int32)
    assert not hand_depth(depth, ids).any()
    assert not hand_depth(depth[None]).any()
    assert not hand_depth(np.zeros((1, 0, 3, 4), np.float32)).any()
    assert not pam_depth(depth).any()
    assert not pam_segmentation(ids, []).any()


Z, IDS = np.ones((2, 3, 4), np.float32), np.zeros((2, 3, 4), np.int32)


def with_value(array: np.ndarray, value: float) -> np.ndarray:
    out = array.copy()
    out[-1, -1, -1] = value
    return out


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hand_depth(Z), r"\(N, M, H, W\)"),
        (lambda: hand_depth(Z[None], IDS), r"\(N, H, W\)"),
        (lambda: hand_depth(np.ones(3, np.float32), IDS), "depth must have shape"),
        (lambda: hand_depth(Z.astype(np.float64), IDS), "depth"),
        (lambda: hand_depth(Z, IDS.astype(np.int64)), "instances"),
        (lambda: hand_depth(Z, IDS[:1]), "instances must have depth's shape"),
        (lambda: hand_depth(with_value(Z, np.nan), IDS), "NaN"),
        (lambda: hand_depth(with_value(Z, np.inf), IDS), "infinite"),
        (lambda: hand_depth(with_value(Z, -1.0), IDS), "negative"),
        (lambda: hand_depth(with_value(Z, np.nan)[None]), "NaN"),
        (lambda: hand_depth(Z, with_value(IDS, -2)), "instances"),
        (lambda: hand_depth(Z, with_value(IDS, 2**31 - 1)), "0..65535"),
        (lambda: hand_depth(Z, IDS, farthest=256), "farthest"),
        (lambda: hand_depth(Z, IDS, farthest=-1), "farthest"),
        (lambda: hand_depth(Z, IDS, farthest=5.5), "farthest"),  # type: ignore[arg-type]
        (lambda: hand_depth(Z, IDS, rounding="up"), "rounding"),  # type: ignore[arg-type]
        (lambda: hand_depth(Z, IDS, threads=-1), "threads"),
        (lambda: hand_depth("depth", IDS), "depth must be an array"),
        (lambda: pam_depth(Z[None]), r"\(N, H, W\)"),
        (lambda: pam_depth(IDS), "depth"),
        (lambda: pam_depth(with_value(Z, np.nan)), "NaN"),
        (lambda: pam_depth(Z, 0.6, 0.4), "low"),
        (lambda: pam_depth(Z, -0.1), "low"),
        (lambda: pam_depth(Z, 0.0, 1.1), "high"),
        (lambda: pam_depth(Z, np.nan), "low"),
        (lambda: pam_depth(Z, "0"), "low must be a number"),  # type: ignore[arg-type]
        (lambda: pam_depth(Z, normalise="log"), "normalise"),  # type: ignore[arg-type]
        (lambda: pam_depth(Z, threads=-1), "threads"),
        (lambda: pam_segmentation(Z, ["hand"]), "instances"),
        (lambda: pam_segmentation(IDS[None], ["hand"]), r"\(N, H, W\)"),
        (lambda: pam_segmentation(IDS, []), "id 0"),
        (lambda: pam_segmentation(with_value(IDS, -2), ["hand"]), "id -2"),
        (lambda: pam_segmentation(with_value(IDS, 1), ["hand"]), "id 1"),
        (lambda: pam_segmentation(IDS, "hand"), "classes"),  # type: ignore[arg-type]
        (lambda: pam_segmentation(IDS, 3), "classes"),  # type: ignore[arg-type]
        (lambda: pam_segmentation(IDS, ["mug"]), "mug"),  # type: ignore[list-item]
        (lambda: pam_segmentation(IDS, [0]), "1..21"),
        (lambda: pam_segmentation(IDS, [22]), "1..21"),
        (lambda: pam_segmentation(IDS, [True]), "True"),
        (lambda: pam_segmentation(IDS, [1.0]), "1.0"),  # type: ignore[list-item]
        (lambda: pam_segmentation(IDS, [1], "oakink2"), "2..120"),
        (lambda: pam_segmentation(IDS, [1], "ycb"), "dataset"),  # type: ignore[arg-type]
        (lambda: normals_picture(Z), "normals must have shape"),
        (lambda: normals_picture(np.ones((1, 2, 2, 4), np.float32)), "normals must have shape"),
        (lambda: normals_picture(np.ones((1, 2, 2, 3))), "normals"),
        (lambda: normals_picture(np.full((1, 2, 2, 3), np.nan, np.float32)), "NaN"),
        (lambda: normals_picture(np.full((1, 2, 2, 3), 2.0, np.float32)), "unit vectors"),
        (lambda: normals_picture(np.ones((1, 2, 2, 3), np.float32), axes="y-up"), "axes"),  # type: ignore[arg-type]
        (lambda: normals_picture(np.ones((1, 2, 2, 3), np.float32), threads=-1), "threads"),
    ],
)
def test_bad_input_is_an_input_error(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
