"""Crops, cameras, depth and masks against independent NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hoirt import _core
from hoirt.hands.detect import Detection
from hoirt.hands.hand import Camera, Hand, project
from hoirt.hands.mask import distance, grow, soften, visible_hand
from hoirt.hands.mesh import MeshEstimator, pinhole
from hoirt.hands.render import draw_depth, metric_depth
from hoirt.hands.window import Window, to_network
from hypothesis import example, given, settings
from hypothesis import strategies as st

BALL_POINTS = np.array(
    [[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float32
) * np.float32(0.06)
# Outward normals with the right-hand rule; in OpenCV axes front faces wind anticlockwise on screen.
BALL_FACES = np.array(
    [[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]], np.int32
)


def a_hand(
    z: float = 0.6, side: int = 100, at: tuple[int, int] = (40, 30), region: np.ndarray | None = None
) -> Hand:
    """An octahedron in the middle of a square of `side` at `at`."""
    box = (float(at[0]), float(at[1]), float(at[0] + side), float(at[1] + side))
    camera = Camera(400.0, 400.0, at[0] + side / 2, at[1] + side / 2)
    vertices = BALL_POINTS + np.array([0, 0, z], np.float32)
    joints = np.repeat(vertices.mean(axis=0)[None], 21, axis=0)
    return Hand(box, 1.0, "right", project(joints, camera), joints, vertices, BALL_FACES, camera, region)


@given(st.tuples(*[st.floats(-50, 150)] * 2), st.tuples(*[st.floats(0.5, 120)] * 2), st.floats(1.0, 2.0))
def test_square_around_a_box(corner: tuple[float, float], extent: tuple[float, float], scale: float) -> None:
    box = (*corner, corner[0] + extent[0], corner[1] + extent[1])
    window = Window.around(box, scale)
    assert window.width == window.height == max(8, round(scale * max(box[2] - box[0], box[3] - box[1])))
    assert abs(window.left + window.width / 2 - (box[0] + box[2]) / 2) <= 0.5 + 1e-9
    assert abs(window.top + window.height / 2 - (box[1] + box[3]) / 2) <= 0.5 + 1e-9  # of the sums


@settings(max_examples=50)
@given(st.integers(-30, 30), st.integers(-30, 30), st.integers(1, 40), st.integers(1, 40))
def test_look_repeats_the_edge(left: int, top: int, width: int, height: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (17, 23, 3), dtype=np.uint8)
    padded = np.pad(picture, [(80, 80), (80, 80), (0, 0)], mode="edge")
    expected = padded[80 + top : 80 + top + height, 80 + left : 80 + left + width]
    window = Window(left, top, width, height)
    assert np.array_equal(window.look(picture, (height, width)), expected)
    rows, columns = window.clipped((17, 23))
    inside = (
        [y for y in range(top, top + height) if 0 <= y < 17],
        [x for x in range(left, left + width) if 0 <= x < 23],
    )
    assert (list(range(rows.start, rows.stop)), list(range(columns.start, columns.stop))) == inside


@settings(max_examples=50)
@given(
    st.tuples(st.integers(-200, 250), st.integers(-150, 180)),
    st.tuples(st.integers(30, 500), st.integers(30, 500)),
    st.tuples(st.integers(1, 64), st.integers(1, 64)),
)
@example((0, -79), (30, 313), (4, 1))
def test_look_keeps_every_pixel_at_its_place(
    corner: tuple[int, int], extent: tuple[int, int], size: tuple[int, int]
) -> None:
    """On a ramp a sample's value tells where it looked; filters average it to its middle.

    Samples that see more than the picture are those of their neighbours that do not.
    """
    x = np.broadcast_to(np.linspace(0, 255, 256), (200, 256))
    y = np.broadcast_to(np.linspace(0, 199, 200)[:, None], (200, 256))
    picture = np.dstack([x, y, x]).astype(np.uint8)
    got = Window(*corner, *extent).look(picture, size).astype(float)
    for axis, pixels, values in ((0, 256, got[..., 0].T), (1, 200, got[..., 1])):
        assert (values == values[:, :1]).all()
        start, length, count = corner[axis], extent[axis], size[1 - axis]
        edges = start * count + np.arange(count + 1) * length  # in parts of a pixel, `count` of them
        middles = (edges[:-1] + edges[1:]) / (2 * count) - 0.5
        errors = np.abs(values[:, 0] - middles.clip(0, pixels - 1))
        inside = np.flatnonzero((edges[:-1] >= 0) & (edges[1:] <= pixels * count))
        if len(inside):
            nearest = np.arange(count).clip(inside[0], inside[-1])
            assert (values == values[nearest]).all()
            assert errors[inside].max() <= 1 + 0.1 * length / count  # fewer neighbours at the border
        else:
            assert (values == values[0]).all() and errors.max() <= 1 + 1.5 * length / count
        inner = (middles > 2 * length / count + 2) & (middles < pixels - 3 - 2 * length / count)
        if inner.any():
            assert errors[inner].max() <= 1.5


def test_to_network() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    batch = to_network([picture, picture[::-1]])
    assert batch.shape == (2, 3, 5, 7) and batch.dtype == np.float32 and batch.flags.c_contiguous
    assert np.allclose(batch[1, 2], picture[::-1, :, 2] / 255, atol=1e-7)


@pytest.mark.parametrize("side", [64, 224, 900])
def test_camera_of_handrefiner(side: int) -> None:
    """f = 1000 L / 224, P_cam = P + (tx, ty, 2 f / (L s)), pixel = f P / Z + L / 2 in the crop."""
    s, tx, ty = 8.2, 0.011, -0.023
    window = Window(-13, 40, side, side)
    points = np.random.default_rng(0).normal(0, 0.08, (50, 3)).astype(np.float32)
    translation, camera = pinhole(np.array([s, tx, ty], np.float32), window)
    got = project(points + translation, camera)
    focal = 1000 * side / 224
    moved = points.astype(np.float64) + np.array([tx, ty, 2 * focal / (side * s)])
    in_crop = focal * moved[:, :2] / moved[:, 2:] + side / 2
    assert np.abs(got - (in_crop + np.array([-13, 40]))).max() < 1e-3 * side / 64
    _, off = pinhole(np.array([-3.0, 0, 0], np.float32), window)  # a camera behind the hand is kept in front
    assert off == camera


def test_depth_is_that_of_the_nearest_front_face() -> None:
    hand = a_hand()
    window, size = Window(30, 20, 120, 120), (30, 36)
    depth = metric_depth(hand, window, size)
    expected = np.full(size, np.inf)
    for row in range(size[0]):
        for column in range(size[1]):
            x = window.left + (column + 0.5) * window.width / size[1]
            y = window.top + (row + 0.5) * window.height / size[0]
            ray = np.array(
                [(x - hand.camera.cx) / hand.camera.fx, (y - hand.camera.cy) / hand.camera.fy, 1.0]
            )
            for face in hand.faces:
                a, b, c = hand.vertices[face].astype(np.float64)
                normal = np.cross(b - a, c - a)
                if normal @ ray >= 0:
                    continue  # seen from inside
                z = (normal @ a) / (normal @ ray)
                weights = np.linalg.solve(np.stack([a, b, c], axis=1), z * ray)
                if (weights >= -1e-9).all():
                    expected[row, column] = min(expected[row, column], z)
    hit = np.isfinite(expected)
    assert hit.sum() > 50
    assert (hit != (depth > 0)).sum() <= 0.05 * hit.sum()  # 1/256-pixel corners move the outline a little
    both = hit & (depth > 0)
    assert np.abs(depth[both] - expected[both]).max() < 2e-3


def test_depth_code_runs_from_255_to_51() -> None:
    drawn = draw_depth([a_hand()], Window(40, 30, 100, 100), (64, 64))
    assert (drawn.max(), drawn[drawn > 0].min()) == (255, pytest.approx(51, abs=2))
    assert not draw_depth([], Window(40, 30, 100, 100), (64, 64)).any()


def test_nearer_hand_covers_the_farther() -> None:
    far, near = a_hand(z=0.9), a_hand(z=0.5)
    window, size = Window(40, 30, 100, 100), (64, 64)
    alone = draw_depth([near], window, size)
    for order in ([far, near], [near, far]):
        both = draw_depth(order, window, size)
        assert np.array_equal(both[alone > 0], alone[alone > 0])


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_distance_is_euclidean(seed: int, limit: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((rng.integers(1, 14), rng.integers(1, 14))) < 0.1
    got = distance(mask, limit)
    rows, columns = np.nonzero(mask)
    if not len(rows):
        assert (got > limit).all()
        return
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]]
    squares = ((y[..., None] - rows) ** 2 + (x[..., None] - columns) ** 2).min(axis=2)
    near = squares <= limit**2
    assert np.allclose(got[near] ** 2, squares[near], atol=1e-3)
    assert (got[~near] > limit).all()
    assert np.array_equal(grow(mask, limit), near)


def test_soft_edge_lies_inside() -> None:
    mask = np.zeros((40, 40), bool)
    mask[5:40, 8:30] = True
    crop = soften(mask, 4.0, fade_at_border=True)
    assert not crop[~mask].any() and crop.dtype == np.float32
    assert (crop[mask] > 0).all() and crop[20, 19] == 1.0
    profile = crop[20, 8:20]
    assert (np.diff(profile) >= 0).all() and profile[0] < 0.2
    assert crop[39, 19] < 0.2  # the crop's border is a seam
    assert soften(mask, 4.0, fade_at_border=False)[39, 19] == 1.0  # the picture's border is none
    assert np.array_equal(soften(mask, 0.0, fade_at_border=True), mask)


def test_visible_hand_is_looked_up_where_it_was_seen() -> None:
    region = np.zeros((10, 10), np.float32)
    region[:5, 5:] = 0.9  # upper right quarter of the crop
    crop = Window(20, 10, 40, 40)
    seen = visible_hand(a_hand(region=region), crop, Window(0, 0, 80, 60), (60, 80))
    expected = np.zeros((60, 80), bool)
    expected[10:30, 40:60] = True
    assert np.array_equal(seen, expected)
    assert not visible_hand(a_hand(), crop, crop, (16, 16)).any()


def test_left_hands_are_right_hands_in_the_mirror() -> None:
    """The mesh of a left hand in the mirrored picture is the mirror of the right hand's."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)
    shape = rng.normal(0, 0.05, (6, 3)).astype(np.float32)

    def fake(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        image = inputs["image"]
        tilt = image[:, 0, :, :8].mean(axis=(1, 2))  # depends on what is seen at the left
        count = len(image)
        return {
            "vertices": (shape[None] * (1 + tilt[:, None, None])).astype(np.float32),
            "camera": np.tile(np.array([7, 0.01, 0.02], np.float32), (count, 1)),
            "region": image[:, 1].copy(),
        }

    network = _core.PythonNetwork(
        [_core.Port("image", (-1, 3, 32, 32))],
        [
            _core.Port("vertices", (-1, 6, 3)),
            _core.Port("camera", (-1, 3)),
            _core.Port("region", (-1, 32, 32)),
        ],
        fake,
    )
    regressor = np.full((21, 6), 1 / 6, np.float32)
    mesh = MeshEstimator(network, faces=BALL_FACES, joint_regressor=regressor, input_size=32, box_scale=1.3)
    (right,) = mesh(picture, [Detection((50, 40, 90, 80), 1.0, "right")])
    (left,) = mesh(picture[:, ::-1], [Detection((70, 40, 110, 80), 1.0, "left")])
    assert np.allclose(left.vertices, right.vertices * (-1, 1, 1), atol=1e-6)
    assert np.allclose(left.keypoints, right.keypoints * (-1, 1) + (160, 0), atol=1e-3)
    assert left.region is not None and np.array_equal(left.region, right.region[:, ::-1])  # type: ignore[index]
    window, mirrored = Window(40, 30, 60, 60), Window(60, 30, 60, 60)
    a, b = draw_depth([right], window, (60, 60)), draw_depth([left], mirrored, (60, 60))[:, ::-1]
    assert (np.abs(a.astype(int) - b) > 2).mean() < 0.01
