"""The rasteriser on hands, at the near plane, and what it refuses; test_raster_exact.py has the reference."""

import numpy as np
import pytest
import trimesh
from hoirt import InputError, OutOfMemory, _core
from hoirt.hands.model import HandModel
from hoirt.render.encode import hand_depth

CAMERA = (90.0, 110.0, 31.5, 24.25)
SIZE = (48, 64)


def draw(
    vertices: np.ndarray, faces: np.ndarray, **options: object
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    outputs = ("depth", "faces", "barycentrics")
    drawn = _core.rasterize(vertices, faces, intrinsics=CAMERA, size=SIZE, outputs=outputs, **options)
    return drawn["depth"][0], drawn["faces"][0], drawn["barycentrics"][0]


def test_hand_refiner_depth_equals_trimesh_rays() -> None:
    """A hand as HandRefiner makes its depth, by ray casting: equal but for a pixel or two on an outline."""
    model = HandModel.load("right")
    turn = np.array([[0.0, 0, -1], [1, 0, 0], [0, -1, 0]])
    vertices = model.template @ turn.T + [0, 0.1, 0.5]
    side = 96
    focal = 1000 * side / 224 / 2
    camera = (focal, focal, side / 2, side / 2)
    depth = _core.rasterize(vertices, model.faces, intrinsics=camera, size=(side, side))["depth"][0]
    ys, xs = np.mgrid[:side, :side] + 0.5
    rays = np.stack([(xs - side / 2) / focal, (ys - side / 2) / focal, np.ones_like(xs)], axis=-1)
    mesh = trimesh.Trimesh(vertices, model.faces, process=False)
    rays = rays.reshape(-1, 3)
    points, index, _ = mesh.ray.intersects_location(np.zeros_like(rays), rays, multiple_hits=True)
    wanted = np.full(len(rays), np.inf)
    np.minimum.at(wanted, index, points[:, 2])
    wanted = np.where(np.isinf(wanted), 0, wanted).reshape(side, side)
    outline = (wanted > 0) != (depth > 0)
    assert outline.sum() <= 2
    both = (wanted > 0) & (depth > 0)
    assert both.sum() > 1000
    np.testing.assert_allclose(depth[both], wanted[both], rtol=1e-5)
    if not outline.any():
        ours, theirs = hand_depth(np.stack([depth, wanted.astype(np.float32)])[:, None], rounding="nearest")
        assert np.abs(ours.astype(int) - theirs).max() <= 1  # halves may round either way


def test_near_plane_clips_but_keeps_the_rest() -> None:
    vertices = np.array([[-0.2, 0.05, -0.5], [0.2, 0.05, -0.5], [0.0, 0.05, 3.0]], np.float32)
    depth, _, weights = draw(vertices, np.array([[0, 1, 2]]), near=0.1)
    hit = depth > 0
    assert hit.any() and depth[hit].min() >= 0.1 - 1e-6 and depth.max() < 3.0
    # The plane y = 0.05 has z = fy * 0.05 / (row + 0.5 - cy).
    rows = np.nonzero(hit)[0]
    np.testing.assert_allclose(depth[hit], CAMERA[1] * 0.05 / (rows + 0.5 - CAMERA[3]), rtol=2e-2)
    assert (weights[hit] >= -1e-5).all()
    behind = draw(vertices - np.array([0, 0, 5], np.float32), np.array([[0, 1, 2]]))[0]
    assert not behind.any()


def test_back_faces_are_culled_on_demand() -> None:
    model = HandModel.load("right")
    vertices = model.template + np.array([0.1, 0, 0.5], np.float32)
    front, ids, _ = draw(vertices, model.faces, cull_back_faces=True)
    both, _, _ = draw(vertices, model.faces)
    np.testing.assert_array_equal(front, both)  # a closed surface shows no back face
    corners = vertices[model.faces[ids[ids >= 0]]]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert ((normals * corners[:, 0]).sum(axis=1) < 1e-9).all()
    inside_out, _, _ = draw(vertices, np.ascontiguousarray(model.faces[:, ::-1]), cull_back_faces=True)
    assert (inside_out[front > 0] > front[front > 0]).mean() > 0.95


TRIANGLE = np.array([[-0.1, -0.1, 1], [0.1, -0.1, 1], [0, 0.1, 1]], np.float32)


FACE = np.array([[0, 1, 2]])


@pytest.mark.parametrize(
    ("vertices", "faces", "options", "words"),
    [
        (TRIANGLE[:, :2], FACE, {}, "vertices must have shape"),
        (TRIANGLE[0], FACE, {}, "vertices must have shape"),
        (TRIANGLE[None, None], FACE, {}, "vertices must have shape"),
        (TRIANGLE.astype(np.float16), FACE, {}, "float32 or float64"),
        (TRIANGLE.astype(int), FACE, {}, "float32 or float64"),
        ([[0.0, 0, 1]], FACE, {}, "vertices must be an array"),
        (TRIANGLE, FACE[:, :2], {}, "faces must have shape"),
        (TRIANGLE, FACE[0], {}, "faces must have shape"),
        (TRIANGLE, FACE.astype(float), {}, "faces must hold int32 or int64"),
        (TRIANGLE, FACE.astype(np.uint8), {}, "faces must hold int32 or int64"),
        (TRIANGLE, FACE + 2**32, {}, "does not fit into int32"),
        (TRIANGLE, np.array([[0, 1, 2], [0, 1, 3]]), {}, "face 1 names the vertex 3; there are 3"),
        (TRIANGLE, FACE - 1, {}, "names the vertex -1"),
        (TRIANGLE[:0], FACE, {}, "there are 0"),
        (TRIANGLE[None][:0], FACE, {}, "0 frames"),
        (TRIANGLE * np.nan, FACE, {}, "vertex 0 of frame 0 holds NaN"),
        (np.stack([TRIANGLE, [*TRIANGLE[:2], [0, 0, np.inf]]]), FACE, {}, "vertex 2 of frame 1 .* infinity"),
        (TRIANGLE.astype(float) * 1e40, FACE, {}, "beyond 1e30"),
        (TRIANGLE, FACE, {"size": (0, 4)}, "pixels"),
        (TRIANGLE, FACE, {"size": (9000, 4)}, "8192"),
        (TRIANGLE, FACE, {"size": (4,)}, r"\(H, W\)"),
        (TRIANGLE, FACE, {"size": (4.5, 4)}, "size"),
        (TRIANGLE, FACE, {"size": 2**70}, "size"),
        (TRIANGLE, FACE, {"near": 0.0}, "near"),
        (TRIANGLE, FACE, {"near": np.nan}, "near"),
        (TRIANGLE, FACE, {"intrinsics": (np.nan, 1, 1, 1)}, "focal length nan"),
        (TRIANGLE, FACE, {"intrinsics": (1, -1, 1, 1)}, "focal length -1"),
        (TRIANGLE, FACE, {"intrinsics": (1, 1, np.inf, 1)}, "principal point"),
        (TRIANGLE, FACE, {"intrinsics": (1, 1, 1)}, "fx, fy, cx, cy"),
        (TRIANGLE, FACE, {"intrinsics": np.zeros((0, 4))}, "fx, fy, cx, cy"),
        (TRIANGLE, FACE, {"intrinsics": ("a", 1, 1, 1)}, "numbers"),
        (TRIANGLE, FACE, {"intrinsics": np.ones(4, int)}, "float64"),
        (TRIANGLE, FACE, {"extrinsics": np.eye(3)}, "extrinsics must have shape"),
        (TRIANGLE, FACE, {"extrinsics": np.eye(4) * 2}, "0 0 0 1"),
        (TRIANGLE, FACE, {"extrinsics": np.eye(4)[:3] * np.nan}, "extrinsics with NaN"),
        (TRIANGLE, FACE, {"extrinsics": np.eye(4)[:3] * 1e40}, "beyond 1e30"),
        (TRIANGLE, FACE, {"extrinsics": np.ones((2, 3, 4)), "intrinsics": np.ones((3, 4))}, "same number"),
        (np.stack([TRIANGLE] * 2), FACE, {"intrinsics": np.ones((3, 4))}, "same number"),
        (TRIANGLE, FACE, {"instances": np.zeros(2, np.int32)}, "instances must have shape"),
        (TRIANGLE, FACE, {"instances": np.array([-1])}, "0 or more"),
        (TRIANGLE, FACE, {"instances": np.array([0.5])}, "int32 or int64"),
        (TRIANGLE, FACE, {"outputs": ("colour",)}, "unknown output 'colour'"),
        (TRIANGLE, FACE, {"outputs": ()}, "nothing"),
        (TRIANGLE, FACE, {"threads": -1}, "threads"),
        (TRIANGLE, FACE, {"threads": 10**6}, "threads"),
    ],
)
def test_wrong_input_is_refused(
    vertices: object, faces: object, options: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        _core.rasterize(vertices, faces, **({"intrinsics": CAMERA, "size": SIZE} | options))


def test_more_pictures_than_memory() -> None:
    with pytest.raises(OutOfMemory, match="cannot allocate"):
        _core.rasterize(
            TRIANGLE, FACE, intrinsics=np.ones((10**6, 4)), size=(8192, 8192), outputs=("barycentrics",)
        )


def test_nothing_to_draw() -> None:
    depth, ids, _ = draw(np.zeros((0, 3)), np.zeros((0, 3), int))
    assert not depth.any() and (ids == -1).all()
    flat = draw(TRIANGLE[[0, 0, 1]], FACE)[0]
    assert not flat.any()


def test_huge_coordinates_are_drawn() -> None:
    """A triangle around everything that can be seen, 1e29 metres wide, and one that far away."""
    wide = TRIANGLE * np.array([1e30, 1e30, 1], np.float32)
    depth = draw(wide, FACE)[0]
    assert (depth == 1).all()
    depth = draw(TRIANGLE * np.float32(1e29), FACE)[0]
    np.testing.assert_array_equal(depth > 0, draw(TRIANGLE, FACE)[0] > 0)
    np.testing.assert_allclose(depth[depth > 0], 1e29, rtol=1e-6)


def test_other_arrays_and_layouts_are_read() -> None:
    import torch

    wanted = draw(TRIANGLE, FACE)[0]
    assert wanted.any()
    np.testing.assert_array_equal(draw(torch.from_numpy(TRIANGLE), torch.from_numpy(FACE))[0], wanted)
    np.testing.assert_array_equal(draw(np.asfortranarray(TRIANGLE), FACE.astype(np.int32))[0], wanted)
    np.testing.assert_array_equal(draw(np.repeat(TRIANGLE, 2, axis=0)[::2], FACE)[0], wanted)
