"""hoirt.render against an independent float64 rasteriser: poses, cameras, clips, ids, bad input."""

from __future__ import annotations

import sys
from typing import Any

import hoirt
import numpy as np
import pytest
import render_reference
import trimesh
from hoirt import Mesh, View
from hoirt.hands.model import HandModel
from hypothesis import given, settings
from hypothesis import strategies as st

SIZE = (48, 64)


def box(side: float = 0.1, centre: tuple[float, float, float] = (0, 0, 0.5)) -> tuple[Any, Any]:
    """Vertices (8, 3) float32 and faces (12, 3) of a cube that was turned a little."""
    cube = trimesh.creation.box((side, side, side))
    turn = trimesh.transformations.euler_matrix(0.4, 0.5, 0.6)[:3, :3]
    vertices = np.asarray(cube.vertices) @ turn.T + centre
    return vertices.astype(np.float32), np.asarray(cube.faces, np.int32)


def hand(centre: tuple[float, float, float] = (0.09, 0, 0.5)) -> Mesh:
    """hoirt's own right hand, its palm to the camera."""
    model = HandModel.load("right")
    posed = model(np.zeros(48))
    turn = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float32)
    return Mesh(
        posed.vertices[0] @ turn.T + np.float32(centre),
        model.faces,
        joints=posed.keypoints[0] @ turn.T + np.float32(centre),
        name="hand",
    )


CAMERA = View((70.0, 72.0, 31.0, 23.5), None, SIZE)


def check(maps: hoirt.Rendered, **arguments: Any) -> None:
    """Coverage, ids, depth, weights and normals agree but for pixels whose centre lies on an edge."""
    expected = render_reference.rasterize(
        **arguments, outputs=("depth", "instances", "faces", "barycentrics", "normals", "silhouette")
    )
    same = np.asarray(maps.faces) == expected["faces"]
    assert same.mean() > 0.999 and maps.depth.shape == expected["depth"].shape
    np.testing.assert_allclose(maps.depth[same], expected["depth"][same], rtol=1e-5)
    np.testing.assert_array_equal(maps.segmentation[same], expected["instances"][same])
    np.testing.assert_array_equal(maps.silhouette[same], expected["silhouette"][same])
    np.testing.assert_allclose(maps.barycentrics[same], expected["barycentrics"][same], atol=1e-3)
    np.testing.assert_allclose(maps.normals[same], expected["normals"][same], atol=1e-4)


ALL = ("depth", "segmentation", "parts", "normals", "silhouette", "faces", "barycentrics", "keypoints")


def test_two_meshes_equal_the_reference() -> None:
    first, second = box(), box(0.08, (0.04, 0.03, 0.45))
    maps = hoirt.render([first, Mesh(*second, instance=7, category=3)], CAMERA, modes=ALL)
    check(
        maps,
        vertices=np.concatenate([first[0], second[0]]),
        faces=np.concatenate([first[1], second[1] + 8]),
        intrinsics=CAMERA.intrinsics,
        size=SIZE,
        instances=np.repeat([0, 7], 12),
    )
    assert set(np.unique(maps.segmentation)) == {-1, 0, 7}
    assert (
        dict(maps.categories) == {0: None, 7: 3}
        and maps.hands == ()
        and maps.keypoints.shape == (1, 0, 21, 2)
    )


def test_poses_and_moving_cameras_equal_the_reference() -> None:
    vertices, faces = box(centre=(0, 0, 0))
    rng = np.random.default_rng(1)
    poses = np.tile(np.eye(4), (3, 1, 1))
    for pose in poses:
        pose[:3, :3] = 1.3 * trimesh.transformations.random_rotation_matrix(rng.random(3))[:3, :3]
        pose[:3, 3] = np.array([0, 0, 0.5]) + rng.uniform(-0.03, 0.03, 3)
    world = np.tile(np.eye(4), (3, 1, 1))
    world[:, :3, 3] = rng.uniform(-0.02, 0.02, (3, 3))
    inner = np.array([[70, 70, 32, 24], [80, 81, 30, 25], [60, 66, 33, 20.5]])
    maps = hoirt.render(Mesh(vertices, faces, poses), View(inner, world, SIZE), modes=ALL)
    moved = vertices @ poses[:, :3, :3].swapaxes(1, 2) + poses[:, None, :3, 3]
    check(maps, vertices=moved, faces=faces, intrinsics=inner, extrinsics=world, size=SIZE)
    assert maps.frames == 3


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    from hoirt.render import clip

    vertices, faces = box()
    moving = vertices + np.linspace(0, 0.05, 7, dtype=np.float32)[:, None, None]
    still = hand()
    seen: list[tuple[int, int]] = []
    whole = hoirt.render([(moving, faces), still], CAMERA, modes=ALL)
    monkeypatch.setattr(clip, "_CHUNK_PIXELS", 1)
    parts = hoirt.render(
        [(moving, faces), still], CAMERA, modes=ALL, threads=2, on_progress=lambda *at: seen.append(at)
    )
    assert seen == [(2, 7), (4, 7), (6, 7), (7, 7)]
    for name in (*ALL, "keypoint_depth"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
        assert len(getattr(parts, name)) == 7


def test_threads_do_not_change_a_bit() -> None:
    one, three = (hoirt.render(hand(), CAMERA, modes=ALL, threads=n) for n in (1, 3))
    for name in ALL:
        np.testing.assert_array_equal(getattr(one, name), getattr(three, name))


def test_cancel_stops_between_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    from hoirt.render import clip

    monkeypatch.setattr(clip, "_CHUNK_PIXELS", 1)
    vertices, faces = box()
    moving = np.repeat(vertices[None], 5, axis=0)
    with pytest.raises(hoirt.Cancelled, match="after 1 of 5"):
        hoirt.render((moving, faces), CAMERA, threads=1, on_progress=lambda done, total: False)
    token = hoirt.CancelToken()
    token.cancel()
    with pytest.raises(hoirt.Cancelled, match="after 0 of 5"):
        hoirt.render((moving, faces), CAMERA, cancel=token)


def test_parts_are_those_of_the_nearest_face() -> None:
    vertices, faces = box()
    maps = hoirt.render(
        [Mesh(vertices, faces, parts=np.arange(12) + 100), box(0.05, (0.1, 0, 0.6))],
        CAMERA,
        modes=("parts", "faces"),
    )
    numbers = np.array([*range(100, 112), *[0] * 12, -1])
    np.testing.assert_array_equal(maps.parts, numbers[maps.faces])
    assert maps.parts.dtype == np.int32


def test_keypoints_are_the_projected_joints() -> None:
    mesh, other = hand(), hand((0.05, 0.02, 0.7))
    world = np.eye(4)
    world[:3, 3] = 0.01, -0.02, 0.03
    view = View((70.0, 72.0, 31.0, 23.5), world, SIZE)
    maps = hoirt.render([box(), mesh, other], view)
    for slot, joints in enumerate((mesh.joints, other.joints)):
        x, y, z = (joints + world[:3, 3]).T.astype(np.float64)
        np.testing.assert_allclose(maps.keypoints[0, slot, :, 0], 70 * x / z + 31, rtol=1e-5)
        np.testing.assert_allclose(maps.keypoints[0, slot, :, 1], 72 * y / z + 23.5, rtol=1e-5)
        np.testing.assert_allclose(maps.keypoint_depth[0, slot], z, rtol=1e-6)
    assert maps.hands == (1, 2) and maps.keypoints.dtype == np.float32


def test_joints_behind_the_camera_have_no_pixels() -> None:
    maps = hoirt.render(hand((0, 0, -1)), CAMERA)
    assert np.isnan(maps.keypoints).all() and not maps.depth.any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_torch_in_torch_out(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    vertices, faces = box()
    vertices = vertices.astype(dtype)
    pose = np.eye(4, dtype=dtype)
    plain = hoirt.render(Mesh(vertices, faces, pose), CAMERA, modes=ALL)
    maps = hoirt.render(
        Mesh(torch.from_numpy(vertices), torch.from_numpy(faces).long(), torch.from_numpy(pose)),
        CAMERA,
        modes=ALL,
    )
    for name in ALL:
        assert isinstance(getattr(maps, name), torch.Tensor)
        np.testing.assert_array_equal(getattr(maps, name).numpy(), getattr(plain, name))
    assert torch.equal(hoirt.render((torch.from_numpy(vertices), faces), CAMERA).depth, maps.depth)


def test_a_dlpack_tensor_of_no_known_library_gives_tensors() -> None:
    from hoirt import _core

    vertices, faces = box()
    maps = hoirt.render((_core.Tensor(vertices), faces), CAMERA, modes="depth")
    assert isinstance(maps.depth, _core.Tensor)
    np.testing.assert_array_equal(maps.depth.numpy(), hoirt.render((vertices, faces), CAMERA).depth)


def test_scene_assembly_is_the_same_on_torch() -> None:
    """What a CUDA scene goes through before the launch, on torch's CPU tensors."""
    torch = pytest.importorskip("torch")
    from hoirt.render.clip import _Scene
    from hoirt.render.mesh import as_meshes

    moving = np.repeat(box()[0][None], 4, axis=0) + np.arange(4, dtype=np.float32)[:, None, None]
    pose = np.eye(4)
    pose[0, 3] = 0.5
    plain = as_meshes([(moving, box()[1]), Mesh(*box(), poses=pose, parts=np.arange(12), instance=9)])
    ours = _Scene(plain)
    from dataclasses import replace

    def torched(mesh: Mesh) -> Mesh:
        names = ("vertices", "faces", "poses", "parts")
        given = {name: getattr(mesh, name) for name in names if getattr(mesh, name) is not None}
        return replace(mesh, **{name: torch.from_numpy(value) for name, value in given.items()})

    theirs = _Scene([torched(mesh) for mesh in plain])
    np.testing.assert_array_equal(theirs.faces.numpy(), ours.faces)
    np.testing.assert_array_equal(theirs.instances.numpy(), ours.instances)
    np.testing.assert_allclose(theirs.vertices(1, 3).numpy(), ours.vertices(1, 3), atol=1e-12)
    index = np.array([[-1, 0, 12, 23]])
    np.testing.assert_array_equal(theirs.parts_of(torch.from_numpy(index)).numpy(), ours.parts_of(index))
    assert ours.parts_of(index).tolist() == [[-1, 0, 0, 11]]


@pytest.mark.parametrize("pixels", [1, 1 << 25])
def test_the_way_of_cuda_tensors(pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's CPU tensors taken for CUDA ones, with the CPU's rasteriser in the place of the CUDA module."""
    torch = pytest.importorskip("torch")
    from types import ModuleType

    from hoirt import _core
    from hoirt.render import arrays, clip

    streams: list[int] = []

    def on_device(vertices: Any, faces: Any, *, stream: int, **options: Any) -> dict[str, Any]:
        assert isinstance(vertices, torch.Tensor) and vertices.is_contiguous()
        assert isinstance(faces, torch.Tensor) and isinstance(options["instances"], torch.Tensor)
        streams.append(stream)
        found = _core.rasterize(vertices, faces, **options)
        return {name: _core.Tensor(array) for name, array in found.items()}

    still = hand()
    joints = np.stack([still.joints, still.joints + np.float32(0.01)])
    moving = np.stack([box()[0]] * 3) + np.linspace(0, 0.05, 3, dtype=np.float32)[:, None, None]
    pose = np.eye(4)
    pose[0, 3] = 0.02
    plain = [
        Mesh(moving, box()[1], pose, parts=np.arange(12)),
        Mesh(still.vertices, still.faces, joints=joints[0]),
    ]
    expected = hoirt.render(plain, CAMERA, modes=ALL)
    module = ModuleType("hoirt._core_cuda")
    module.rasterize = on_device  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "hoirt._core_cuda", module)
    monkeypatch.setattr(hoirt, "_core_cuda", module, raising=False)
    monkeypatch.setattr(arrays, "CPU_DEVICES", (0,))
    monkeypatch.setattr(arrays, "CUDA_DEVICES", (1,))
    monkeypatch.setattr(arrays, "stream_of", lambda array: 77)
    monkeypatch.setattr(clip, "open_device", lambda name: _core.open_device("cpu"))
    monkeypatch.setattr(clip, "_CHUNK_PIXELS", pixels)
    there = [
        Mesh(torch.from_numpy(moving), box()[1], torch.from_numpy(pose), parts=np.arange(12)),
        Mesh(
            torch.from_numpy(still.vertices),
            torch.from_numpy(still.faces),
            joints=torch.from_numpy(joints[0]),
        ),
    ]
    maps = hoirt.render(there, CAMERA, modes=ALL, threads=1)
    assert streams == [77] * (3 if pixels == 1 else 1)
    for name in (*ALL, "keypoint_depth"):
        assert isinstance(getattr(maps, name), torch.Tensor)
        np.testing.assert_array_equal(getattr(maps, name).numpy(), getattr(expected, name))


def test_hands_trimesh_objects_and_scenes_are_meshes() -> None:
    vertices, faces = box()
    expected = hoirt.render((vertices, faces), CAMERA).depth
    solid = trimesh.Trimesh(vertices, faces, process=False)
    np.testing.assert_array_equal(hoirt.render(solid, CAMERA).depth, expected)
    scene = trimesh.Scene()
    scene.add_geometry(trimesh.Trimesh(vertices - [0, 0, 0.5], faces, process=False), transform=shift(0.5))
    np.testing.assert_allclose(hoirt.render(scene, CAMERA).depth, expected, rtol=1e-5)
    mesh = hand()
    found = hoirt.Hand(
        (0, 0, 1, 1), 1.0, "right", np.zeros((21, 2)), mesh.joints, mesh.vertices, mesh.faces,
        hoirt.Camera(70.0, 72.0, 31.0, 23.5),
    )  # fmt: skip
    maps = hoirt.render(found, found.camera, SIZE)
    np.testing.assert_array_equal(maps.depth, hoirt.render(mesh, CAMERA).depth)
    assert maps.keypoints.shape == (1, 1, 21, 2) and maps.hands == (0,)


def shift(z: float) -> Any:
    matrix = np.eye(4)
    matrix[2, 3] = z
    return matrix


def test_depth_of_a_hand_equals_ray_casting() -> None:
    """trimesh casts rays through the pixel centres, as HandRefiner does; silhouette pixels may differ."""
    mesh, size = hand(), (64, 64)
    view = View((190.0, 190.0, 32.0, 32.0), None, size)
    ours = hoirt.render(mesh, view, modes=("depth", "silhouette")).depth[0]
    rows, columns = np.mgrid[:64, :64] + 0.5
    rays = np.stack([(columns - 32) / 190, (rows - 32) / 190, np.ones_like(rows)], axis=-1).reshape(-1, 3)
    solid = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    caster = trimesh.ray.ray_triangle.RayMeshIntersector(solid)
    points, ray, _ = caster.intersects_location(np.zeros_like(rays), rays, multiple_hits=False)
    theirs = np.zeros(64 * 64)
    theirs[ray] = points[:, 2]
    theirs = theirs.reshape(64, 64)
    both = (ours > 0) & (theirs > 0)
    assert both.sum() > 800 and ((ours > 0) != (theirs > 0)).sum() <= 4
    np.testing.assert_allclose(ours[both], theirs[both], rtol=1e-5)


def test_culling_and_near() -> None:
    vertices, faces = box()
    inside_out = faces[:, ::-1]
    culled = hoirt.render((vertices, inside_out), CAMERA, cull_back_faces=True).depth
    front = hoirt.render((vertices, faces), CAMERA, cull_back_faces=True).depth
    assert (culled[front > 0] > front[front > 0]).all()  # the far side, seen from inside
    assert not hoirt.render((vertices, faces), CAMERA, near=2.0).depth.any()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), frames=st.integers(1, 3), which=st.integers(0, 2))
def test_random_scenes_equal_the_reference(seed: int, frames: int, which: int) -> None:
    rng = np.random.default_rng(seed)
    vertices = rng.uniform(-0.3, 0.3, (frames if which != 1 else 1, 9, 3)) + np.array([0, 0, 0.6])
    faces = rng.permuted(np.tile(np.arange(9), (6, 1)), axis=1)[:, :3].astype(np.int64)
    inner = rng.uniform([20, 20, 0, 0], [60, 60, 20, 16], (frames if which != 0 else 1, 4))
    maps = hoirt.render((vertices, faces), View(inner, None, (16, 20)), modes=ALL)
    expected = render_reference.rasterize(
        vertices, faces, intrinsics=inner, size=(16, 20), outputs=("depth", "faces")
    )
    # Two faces may share all corners, so the depths are compared, not the faces.
    same = np.isclose(maps.depth, expected["depth"], rtol=1e-5, atol=0)
    assert same.mean() > 0.98 and ((maps.faces >= 0) == (expected["faces"] >= 0)).mean() > 0.99
    np.testing.assert_allclose(maps.depth[same], expected["depth"][same], rtol=1e-5)


def test_the_package_is_the_function() -> None:
    import importlib

    package = importlib.import_module("hoirt.render")
    assert callable(package) and hoirt.render is package
    np.testing.assert_array_equal(package(box(), CAMERA).depth, package.render(box(), CAMERA).depth)


def test_cuda_scenes_equal_the_cpu() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    pytest.importorskip("hoirt._core_cuda", reason="hoirt was built without CUDA")
    vertices, faces = box()
    moving = np.stack([vertices, vertices + np.float32(0.02)])
    plain = hoirt.render(Mesh(moving, faces, parts=np.arange(12)), CAMERA, modes=ALL)
    mesh = Mesh(
        torch.from_numpy(moving).cuda(), torch.from_numpy(faces).cuda(), parts=torch.arange(12).cuda()
    )
    maps = hoirt.render(mesh, CAMERA, modes=ALL)
    assert maps.depth.is_cuda
    for name in ("faces", "segmentation", "parts", "silhouette"):
        np.testing.assert_array_equal(getattr(maps, name).cpu().numpy(), getattr(plain, name))
    np.testing.assert_allclose(maps.depth.cpu().numpy(), plain.depth, rtol=1e-6)


def test_nvdiffrast_draws_the_same_where_it_is_installed() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    pytest.importorskip("nvdiffrast.torch", reason="nvdiffrast is not installed")
    pytest.importorskip("hoirt._core_cuda", reason="hoirt was built without CUDA")
    vertices, faces = box()
    mesh = Mesh(torch.from_numpy(vertices).cuda(), torch.from_numpy(faces).cuda())
    ours, theirs = (hoirt.render(mesh, CAMERA, modes=ALL, backend=name) for name in ("hoirt", "nvdiffrast"))
    seen, also = ours.silhouette.cpu().numpy() != 0, theirs.silhouette.cpu().numpy() != 0
    assert (seen != also).mean() < 1e-3  # its float32 moves silhouettes
    both = seen & also
    np.testing.assert_allclose(theirs.depth.cpu().numpy()[both], ours.depth.cpu().numpy()[both], rtol=1e-3)
