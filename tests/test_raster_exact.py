"""The rasteriser against a float64 reference on adversarial meshes, and its promises about shared edges."""

from __future__ import annotations

import numpy as np
import pytest
from hoirt import _core
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from raster_meshes import KINDS, Floats, even_grid, tessellated
from raster_reference import look

CAMERA = (90.0, 110.0, 31.5, 24.25)
SIZE = (48, 64)
ALL = ("depth", "instances", "faces", "barycentrics", "normals", "silhouette")
# Pixels; a vertex moves by at most half of 1/16384 pixel along each axis.
SNAPPED = 1e-4


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_equal_to_the_reference(kind: str, seed: int) -> None:
    """Coverage but within 1e-4 pixel of an edge, depth to 1e-5, the face where no other is as near."""
    rng = np.random.default_rng(seed)
    vertices = KINDS[kind](rng)
    faces = np.arange(len(vertices)).reshape(-1, 3)
    near = 0.05
    drawn = _core.rasterize(vertices, faces, intrinsics=CAMERA, size=SIZE, near=near, outputs=ALL)
    depth, ids, weights = drawn["depth"][0], drawn["faces"][0], drawn["barycentrics"][0]
    seen = look(vertices, faces, CAMERA, SIZE, near)
    sure = seen.edge > SNAPPED
    np.testing.assert_array_equal((ids >= 0)[sure], seen.hit[sure])
    both = sure & seen.hit
    np.testing.assert_allclose(depth[both], seen.depth[both], rtol=1e-5)
    clear = both & (seen.second > seen.depth * (1 + 1e-6))
    np.testing.assert_array_equal(ids[clear], seen.face[clear])
    # The weights give back the point that the pixel sees.
    points = np.einsum("nk,nkc->nc", weights[clear].astype(np.float64), vertices[faces[ids[clear]]])
    np.testing.assert_allclose(points[:, 2], depth[clear], rtol=1e-4, atol=1e-6 * np.abs(vertices).max())
    # Everything that is drawn is drawn consistently.
    hit = ids >= 0
    np.testing.assert_array_equal(depth > 0, hit)
    np.testing.assert_array_equal(drawn["silhouette"][0], hit)
    np.testing.assert_array_equal(drawn["instances"][0], np.where(hit, 0, -1))
    assert (depth[hit] >= near * (1 - 1e-6)).all()
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=-1), hit, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_extrinsics_equal_the_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn * np.sign(np.linalg.det(turn)), rng.uniform(-1, 1, 3)
    seen_from_camera = KINDS["ordinary"](rng)
    vertices = (seen_from_camera - pose[:3, 3]) @ pose[:3, :3]
    faces = np.arange(len(vertices)).reshape(-1, 3)
    seen = look(vertices, faces, CAMERA, SIZE, extrinsics=pose)
    for extrinsics in (pose, pose[:3], pose[None]):
        drawn = _core.rasterize(
            vertices, faces, intrinsics=CAMERA, size=SIZE, extrinsics=extrinsics, outputs=("depth", "normals")
        )
        depth, normals = drawn["depth"][0], drawn["normals"][0]
        sure = seen.edge > SNAPPED
        np.testing.assert_array_equal((depth > 0)[sure], seen.hit[sure])
        both = sure & seen.hit
        np.testing.assert_allclose(depth[both], seen.depth[both], rtol=1e-5)
        clear = both & (seen.second > seen.depth * (1 + 1e-6))
        a, b, c = np.moveaxis(seen_from_camera[faces[seen.face[clear]]], 1, 0)
        wanted = np.cross(b - a, c - a)
        wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
        wanted *= -np.sign((wanted * a).sum(axis=1, keepdims=True))
        np.testing.assert_allclose(normals[clear], wanted, atol=1e-5)
        assert not normals[depth == 0].any()


def winding(points: Floats, faces: NDArray[np.int64]) -> NDArray[np.int64]:
    """1 or -1 (F,) by the sense in which the faces run round, 0 for empty ones; points (V, 2)."""
    a, b, c = np.moveaxis(points[faces], 1, 0)
    (ux, uy), (vx, vy) = (b - a).T, (c - a).T
    return np.sign(ux * vy - uy * vx).astype(np.int64)


@pytest.mark.parametrize("scale", [0.2, 1.0, 500.0, 1e7])
@pytest.mark.parametrize("tilt", [0.0, 0.4, 3.0])
@pytest.mark.parametrize("snapped", [False, True])
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
@example(seed=1590)  # a square with a fold
def test_every_pixel_of_a_closed_quad_is_covered_exactly_once(
    scale: float, tilt: float, snapped: bool, seed: int
) -> None:
    """Each face drawn alone; also beyond the guard band and through the near plane."""
    rng = np.random.default_rng(seed)
    flat, faces = tessellated(rng, 6)
    if snapped:  # corners and edges through pixel centres
        flat = np.round(flat * 8) / 8
    flat = flat * scale
    vertices = np.concatenate([flat, 1 + tilt * flat[:, 1:]], axis=1)
    camera = (64.0, 64.0, 32.5, 24.5)
    alone = [
        _core.rasterize(vertices, face[None], intrinsics=camera, size=SIZE, outputs=("silhouette",))
        for face in faces
    ]
    # Moving corners may fold the quad; a fold covers a pixel twice more, once turned over.
    turned = winding(flat, faces) * winding(even_grid(6).reshape(-1, 2), faces)
    assume((turned != 0).all())  # a face without area may cover what rounding leaves between its neighbours
    counts = sum(side * drawn["silhouette"][0].astype(int) for side, drawn in zip(turned, alone, strict=True))
    whole = _core.rasterize(vertices, faces, intrinsics=camera, size=SIZE, outputs=("silhouette",))
    np.testing.assert_array_equal(counts, whole["silhouette"][0].astype(int))
    if tilt == 0 and scale >= 1:
        assert (counts == 1).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), threads=st.sampled_from([2, 3, 7, 16]))
def test_the_bits_do_not_depend_on_threads_order_or_batch(seed: int, threads: int) -> None:
    rng = np.random.default_rng(seed)
    clip = np.stack([KINDS[kind](rng)[:12] for kind in ("ordinary", "huge", "crossing the near plane")])
    faces = np.arange(12).reshape(4, 3)
    instances = rng.integers(0, 1000, 4).astype(np.int32)
    options = {"intrinsics": CAMERA, "size": SIZE, "outputs": ALL, "near": 0.05}
    one = _core.rasterize(clip, faces, instances=instances, threads=1, **options)
    many = _core.rasterize(clip, faces, instances=instances, threads=threads, **options)
    for name in ALL:
        np.testing.assert_array_equal(one[name], many[name])
        assert one[name].shape[:3] == (3, *SIZE)
    for frame in range(3):
        single = _core.rasterize(clip[frame], faces, instances=instances, threads=threads, **options)
        for name in ALL:
            np.testing.assert_array_equal(one[name][frame], single[name][0])
    order = rng.permutation(4)
    shuffled = _core.rasterize(clip, faces[order], instances=instances[order], threads=threads, **options)
    np.testing.assert_array_equal(one["depth"], shuffled["depth"])
    hit = one["faces"] >= 0
    np.testing.assert_array_equal(one["faces"][hit], order[shuffled["faces"][hit]])
    np.testing.assert_array_equal(one["instances"], np.where(hit, instances[one["faces"]], -1))


def test_frames_of_cameras_and_of_vertices_are_broadcast() -> None:
    rng = np.random.default_rng(4)
    vertices = KINDS["ordinary"](rng)
    faces = np.arange(len(vertices)).reshape(-1, 3)
    cameras = np.array([CAMERA, (60.0, 60.0, 20.0, 30.0)])
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, 2, 3] = 0.5
    both = _core.rasterize(vertices, faces, intrinsics=cameras, extrinsics=poses, size=SIZE)["depth"]
    for k in range(2):
        moved = vertices + poses[k, :3, 3]
        one = _core.rasterize(moved, faces, intrinsics=cameras[k], size=SIZE)["depth"]
        np.testing.assert_allclose(one[0], both[k], rtol=1e-6)
    repeated = _core.rasterize(np.stack([vertices] * 2), faces, intrinsics=CAMERA, size=SIZE)["depth"]
    np.testing.assert_array_equal(repeated[0], repeated[1])


def test_of_equally_near_faces_the_first_one_shows() -> None:
    vertices = np.array([[-0.2, -0.2, 1], [0.2, -0.2, 1], [0, 0.2, 1]])
    drawn = _core.rasterize(
        vertices, np.array([[2, 1, 0], [0, 1, 2]]), intrinsics=CAMERA, size=SIZE, outputs=("faces",)
    )
    assert set(np.unique(drawn["faces"])) == {-1, 0}


def test_float32_and_float64_vertices_give_the_same_bits() -> None:
    vertices = KINDS["small"](np.random.default_rng(0)).astype(np.float32)
    faces = np.arange(len(vertices), dtype=np.int32).reshape(-1, 3)
    narrow = _core.rasterize(vertices, faces, intrinsics=CAMERA, size=SIZE, outputs=ALL)
    wide = _core.rasterize(vertices.astype(float), faces, intrinsics=CAMERA, size=SIZE, outputs=ALL)
    for name in ALL:
        np.testing.assert_array_equal(narrow[name], wide[name])


def test_the_largest_picture() -> None:
    """8192 pixels a side, filled to the last row and column by two triangles."""
    corners = np.array([[-0.5, -0.5, 1], [0.5, -0.5, 1], [0.5, 0.5, 1], [-0.5, 0.5, 1]])
    drawn = _core.rasterize(
        corners,
        np.array([[0, 1, 2], [0, 2, 3]]),
        intrinsics=(8192.0, 8192.0, 4096.0, 4096.0),
        size=(8192, 8192),
        outputs=("silhouette",),
    )
    assert drawn["silhouette"].all()
