"""The depth rasteriser: coverage, depth and barycentrics against independent references."""

import numpy as np
import pytest
import trimesh
from hoirt import InputError, _core
from hoirt.hands.model import HandModel
from hypothesis import given, settings
from hypothesis import strategies as st

CAMERA = (90.0, 110.0, 31.5, 24.25)
SIZE = (48, 64)


def draw(
    vertices: np.ndarray, faces: np.ndarray, **options: object
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    outputs = ("depth", "faces", "barycentrics")
    drawn = _core.rasterize(vertices, faces, intrinsics=CAMERA, size=SIZE, outputs=outputs, **options)
    return drawn["depth"][0], drawn["faces"][0], drawn["barycentrics"][0]


def reference(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Depth and distance to the nearest edge (pixels), ray cast per pixel centre in float64; no clipping."""
    fx, fy, cx, cy = CAMERA
    ys, xs = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    rays = np.stack([(xs - cx) / fx, (ys - cy) / fy, np.ones_like(xs)], axis=-1)
    depth, edge = np.full(SIZE, np.inf), np.full(SIZE, np.inf)
    for a, b, c in vertices[faces]:
        normal = np.cross(b - a, c - a)
        with np.errstate(all="ignore"):
            z = (normal @ a) / (rays @ normal)
        points = rays * z[..., None]
        inside = np.ones(SIZE, bool)
        for p, q in ((a, b), (b, c), (c, a)):
            inside &= np.cross(q - p, points - p) @ normal >= 0
            screen = [np.array([fx * v[0] / v[2] + cx, fy * v[1] / v[2] + cy]) for v in (p, q)]
            line = screen[1] - screen[0]
            offset = np.stack([xs - screen[0][0], ys - screen[0][1]], axis=-1)
            t = np.clip(offset @ line / max(line @ line, 1e-12), 0, 1)
            edge = np.minimum(edge, np.linalg.norm(offset - t[..., None] * line, axis=-1))
        depth = np.where(inside & (z > 0) & (z < depth), z, depth)
    return np.where(np.isinf(depth), 0.0, depth), edge


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_random_triangles_equal_ray_casting(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vertices = rng.uniform([-0.4, -0.3, 0.5], [0.4, 0.3, 2.0], (9, 3)).astype(np.float32)
    faces = np.arange(9).reshape(3, 3)
    depth, ids, weights = draw(vertices, faces)
    wanted, edge = reference(vertices.astype(np.float64), faces)
    # Vertices are snapped to 1/256 pixel, so centres nearer to an edge than that may fall either way.
    sure = edge > 0.02
    np.testing.assert_array_equal((depth > 0)[sure], (wanted > 0)[sure])
    both = sure & (depth > 0)
    slack = 0.02 * np.abs(np.ptp(vertices[:, 2]))  # a sliver's depth changes fast with the snapped vertices
    assert np.abs(depth - wanted)[both].max(initial=0.0) <= slack
    assert (ids >= 0).sum() == (depth > 0).sum()
    np.testing.assert_allclose(weights[ids >= 0].sum(axis=1), 1.0, atol=1e-5)
    points = np.einsum("nk,nkc->nc", weights[ids >= 0], vertices[faces[ids[ids >= 0]]])
    np.testing.assert_allclose(points[:, 2], depth[ids >= 0], rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_every_pixel_of_a_tessellated_quad_is_covered_once(seed: int) -> None:
    """Shared edges: each triangle drawn alone covers pixels that no other one covers."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(np.linspace(-0.25, 0.25, 5), np.linspace(-0.15, 0.15, 5)), axis=-1).reshape(
        -1, 2
    )
    inner = (np.abs(grid[:, 0]) < 0.2) & (np.abs(grid[:, 1]) < 0.1)
    grid[inner] += rng.uniform(-0.03, 0.03, (inner.sum(), 2))
    vertices = np.concatenate([grid, np.ones((25, 1))], axis=1).astype(np.float32)
    faces = []
    for i in range(4):
        for j in range(4):
            a = 5 * i + j
            faces += [[a, a + 1, a + 6], [a, a + 6, a + 5]]
    counts = sum((draw(vertices, np.array([face]))[0] > 0).astype(int) for face in faces)
    whole = draw(vertices, np.array(faces))[0] > 0
    np.testing.assert_array_equal(counts, whole.astype(int))


def test_hand_depth_equals_trimesh_rays() -> None:
    model = HandModel.load("right")
    turn = np.array([[0.0, 0, -1], [1, 0, 0], [0, -1, 0]])
    vertices = (model.template @ turn.T + [0, 0.1, 0.5]).astype(np.float32)
    depth, _, _ = draw(vertices, model.faces)
    fx, fy, cx, cy = CAMERA
    ys, xs = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    rays = np.stack([(xs - cx) / fx, (ys - cy) / fy, np.ones_like(xs)], axis=-1).reshape(-1, 3)
    mesh = trimesh.Trimesh(vertices, model.faces, process=False)
    points, index, _ = mesh.ray.intersects_location(np.zeros_like(rays), rays, multiple_hits=True)
    wanted = np.full(len(rays), np.inf)
    np.minimum.at(wanted, index, points[:, 2])
    wanted = np.where(np.isinf(wanted), 0, wanted).reshape(SIZE)
    covered = (wanted > 0) & (depth > 0)
    assert ((wanted > 0) != (depth > 0)).sum() <= 4  # silhouette pixels may differ
    assert covered.sum() > 100
    difference = np.sort(np.abs(depth - wanted)[covered])
    assert difference[-6] <= 2e-4  # a fold's pixel may see the other side of it


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


@pytest.mark.parametrize(
    ("vertices", "faces", "options", "words"),
    [
        (TRIANGLE[:, :2], [[0, 1, 2]], {}, "vertices"),
        (TRIANGLE, [[0, 1]], {}, "faces"),
        (TRIANGLE, [[0, 1, 3]], {}, "vertex"),
        (TRIANGLE, [[0, 1, -1]], {}, "vertex"),
        (TRIANGLE * np.nan, [[0, 1, 2]], {}, "NaN"),
        (np.full((3, 3), np.inf), [[0, 1, 2]], {}, "infinity"),
        (TRIANGLE, [[0, 1, 2]], {"size": (0, 4)}, "pixels"),
        (TRIANGLE, [[0, 1, 2]], {"size": (9000, 4)}, "8192"),
        (TRIANGLE, [[0, 1, 2]], {"near": 0.0}, "near"),
        (TRIANGLE, [[0, 1, 2]], {"intrinsics": (np.nan, 1, 1, 1)}, "camera"),
    ],
)
def test_wrong_input_is_refused(
    vertices: object, faces: object, options: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        _core.rasterize(vertices, np.array(faces), **({"intrinsics": CAMERA, "size": SIZE} | options))


def test_nothing_to_draw() -> None:
    depth, ids, _ = draw(np.zeros((0, 3)), np.zeros((0, 3), int))
    assert not depth.any() and (ids == -1).all()
    flat = draw(TRIANGLE[[0, 0, 1]], np.array([[0, 1, 2]]))[0]
    assert not flat.any()


def test_huge_coordinates_do_not_crash() -> None:
    depth, _, _ = draw(TRIANGLE * np.array([1e30, 1e30, 1], np.float32), np.array([[0, 1, 2]]))
    assert np.isfinite(depth).all()
