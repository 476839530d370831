"""Cameras against OpenCV, pictures against the encoders, occlusion against rays, nvdiffrast's space."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import hoirt
import numpy as np
import pytest
import trimesh
from hoirt import Mesh, View
from hoirt.hands.model import HandModel
from hoirt.render.encode import hand_depth, normals_picture, pam_depth, pam_segmentation
from hoirt.render.nvdiffrast import clip_matrices
from hoirt.render.nvdiffrast import rasterize as nvdiffrast_rasterize
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_render import ALL, CAMERA, SIZE, box, hand

# --- cameras ---


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_projection_equals_opencv(seed: int) -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    rng = np.random.default_rng(seed)
    turn, offset = rng.uniform(-3, 3, 3), rng.uniform(-0.5, 0.5, 3) + np.array([0, 0, 3])
    points = rng.uniform(-1, 1, (9, 3))
    fx, fy, cx, cy = rng.uniform(10, 900, 4)
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    world = np.eye(4)
    world[:3, :3], world[:3, 3] = cv2.Rodrigues(turn)[0], offset
    pixels, depth = View(matrix, world[:3]).project(points[None])
    front = (points @ world[:3, :3].T + offset)[:, 2] > 0.05
    theirs = cv2.projectPoints(points, turn, offset, matrix, None)[0][:, 0]
    np.testing.assert_allclose(pixels[0][front], theirs[front], rtol=1e-7, atol=1e-6)
    np.testing.assert_allclose(depth[0], points @ world[2, :3] + offset[2], atol=1e-12)


def test_forms_of_intrinsics_are_one() -> None:
    plain = View((70.0, 72.0, 31.0, 23.5))
    for same in (
        hoirt.Camera(70.0, 72.0, 31.0, 23.5),
        [70, 72, 31, 23.5],
        np.array([[70, 72, 31, 23.5]], np.float32),
        [[70, 0, 31], [0, 72, 23.5], [0, 0, 1]],
        plain.matrices,
    ):
        np.testing.assert_array_equal(View(same).intrinsics, plain.intrinsics)
    assert View.of(plain, (4, 6)).size == (4, 6) and View.of(plain) is plain


@given(
    st.floats(0.05, 10), st.floats(-1, 1), st.floats(-1, 1), st.integers(2, 500).map(lambda half: 2 * half)
)
def test_weak_perspective_is_handrefiners_camera(scale: float, tx: float, ty: float, side: int) -> None:
    """Its formulas, written out: focal length 1000 L / 224, camera at (-tx, -ty, -2 f / (L s + 1e-9))."""
    points = np.random.default_rng(0).uniform(-0.1, 0.1, (21, 3))
    f = 1000 * side / 224
    moved = points - np.array([-tx, -ty, -2 * f / (side * scale + 1e-9)])
    expected = f * moved[:, :2] / moved[:, 2:] + side / 2
    view = View.weak_perspective((scale, tx, ty), side)
    pixels, depth = view.project(points[None])
    if moved[:, 2].min() > 0.01:
        np.testing.assert_allclose(pixels[0], expected, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(depth[0], moved[:, 2], rtol=1e-12, atol=1e-12)
    # The distance does not depend on the crop's size.
    assert abs(view.extrinsics[0, 2, 3] - 2000 / (224 * scale)) < 1e-4 * view.extrinsics[0, 2, 3]


@given(st.integers(0, 2**32 - 1), st.floats(5, 120), st.floats(0.2, 1))
def test_around_sees_everything(seed: int, angle: float, fill: float) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(0, 10 ** rng.uniform(-3, 2), (20, 3)) + rng.normal(0, 5, 3)
    towards, up = rng.normal(size=(2, 3))
    view = View.around(points, (90, 160), towards=towards, up=up, angle=angle, fill=fill)
    pixels, depth = view.project(points[None])
    assert (depth > 0).all()
    assert ((pixels >= [35 - 1e-6, -1e-6]) & (pixels <= [125 + 1e-6, 90 + 1e-6])).all()
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    sky, _ = view.project((middle + 1e-3 * depth.min() * up / np.linalg.norm(up))[None, None])
    assert sky[0, 0, 1] < 45.0  # up is up


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((1, 2, 3),), r"must be fx, fy, cx, cy as \(4,\) or \(N, 4\)"),
        ((np.zeros((0, 4)),), "must be fx, fy, cx, cy"),
        (((0, 70, 32, 24),), "focal lengths must be positive, not 0"),
        (((70, -70, 32, 24),), "focal lengths must be positive, not -70"),
        (((70, np.nan, 32, 24),), "NaN or infinity"),
        ((("a", "b", "c", "d"),), "must be numbers"),
        (([[70, 1, 32], [0, 70, 24], [0, 0, 1]],), "without skew"),
        (([[70, 0, 32], [0, 70, 24], [0, 0, 2]],), "without skew"),
        (((70, 70, 32, 24), np.eye(3)), r"extrinsics must be \(4, 4\)"),
        (((70, 70, 32, 24), 2 * np.eye(4)), "last row"),
        (((70, 70, 32, 24), np.diag([2, 2, 2, 1])), "must be rigid"),
        (((70, 70, 32, 24), np.diag([-1, 1, 1, 1])), "must be rigid"),
        (((70, 70, 32, 24), np.full((3, 4), np.nan)), "NaN or infinity"),
        ((np.tile([70, 70, 32, 24], (2, 1)), np.tile(np.eye(4), (3, 1, 1))), "2 intrinsics but 3 extrinsics"),
        (((70, 70, 32, 24), None, (1, 2, 3)), "whole pixels"),
    ],
)
def test_bad_cameras_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(hoirt.InputError, match=message):
        View(*arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: View.weak_perspective((0, 0, 0), 224), "scale must be positive"),
        (lambda: View.weak_perspective((1, 0), 224), r"must be \(3,\) or \(N, 3\)"),
        (lambda: View.weak_perspective((1, 0, np.inf), 224), "NaN or infinity"),
        (lambda: View.around(np.zeros((0, 3)), SIZE), "points must be"),
        (lambda: View.around(np.ones((2, 2)), SIZE), "points must be"),
        (lambda: View.around(np.eye(3), SIZE, angle=170), "angle must be"),
        (lambda: View.around(np.eye(3), SIZE, up=(0, 0, 1)), "not be zero nor on one line"),
        (lambda: View.around(np.eye(3), SIZE, towards=(0, 0)), r"must be \(3,\)"),
        (lambda: CAMERA.project(np.eye(3)), r"points must be \(N, P, 3\)"),
    ],
)
def test_bad_arguments_of_cameras_are_refused(call: Any, message: str) -> None:
    with pytest.raises(hoirt.InputError, match=message):
        call()


# --- pictures ---


@pytest.fixture(scope="module")
def maps() -> hoirt.Rendered:
    """A hand (instance 5) before a cup (instance 2)."""
    cup = Mesh(*box(0.12, (0, 0.02, 0.6)), instance=2, category=3)
    from dataclasses import replace

    return hoirt.render([cup, replace(hand(), instance=5)], CAMERA, modes=ALL)


def test_pictures_are_those_of_the_encoders(maps: hoirt.Rendered) -> None:
    hands = maps.segmentation == 5
    alone = np.where(hands, maps.depth, np.float32(0))
    np.testing.assert_array_equal(maps.picture("handrefiner"), hand_depth(alone[:, None]))
    assert maps.picture("handrefiner").max() == 255 and not maps.picture("handrefiner")[~hands].any()
    np.testing.assert_array_equal(maps.picture("pam-depth", low=0.2), pam_depth(maps.depth, low=0.2))
    compact = np.where(hands, 1, np.where(maps.segmentation == 2, 0, -1)).astype(np.int32)
    np.testing.assert_array_equal(maps.picture("pam-segmentation"), pam_segmentation(compact, [3, "hand"]))
    np.testing.assert_array_equal(maps.picture("normals"), normals_picture(maps.normals))
    np.testing.assert_array_equal(maps.picture("silhouette") == 255, maps.depth > 0)
    for style in ("keypoints", "openpose"):
        drawn = maps.picture(style)
        assert drawn.shape == (1, *SIZE, 3) and drawn.dtype == np.uint8 and drawn.any()


def test_pictures_of_torch_maps_are_torch() -> None:
    torch = pytest.importorskip("torch")
    vertices, faces = box()
    picture = hoirt.render((torch.from_numpy(vertices), faces), CAMERA).picture("pam-depth")
    assert isinstance(picture, torch.Tensor) and picture.dtype == torch.uint8


def test_without_hands_every_mesh_is_drawn_as_one() -> None:
    assert hoirt.render(box(), CAMERA).picture("handrefiner").max() == 255


@pytest.mark.parametrize(
    ("modes", "style", "message"),
    [
        (ALL, "watercolour", "style 'watercolour' is unknown; known are handrefiner"),
        ("depth", "handrefiner", r"needs segmentation; render with modes=\('depth', 'segmentation'\)"),
        ("depth", "normals", "needs normals"),
        (ALL, "pam-segmentation", "what instance 0 is was not said"),
        (ALL, "keypoints", "no mesh has joints to draw"),
    ],
)
def test_pictures_that_cannot_be_made_are_refused(modes: Any, style: str, message: str) -> None:
    with pytest.raises(hoirt.InputError, match=message):
        hoirt.render(box(), CAMERA, modes=modes).picture(style)


def test_one_id_cannot_be_two_things() -> None:
    meshes = [Mesh(*box(), instance=1, category=3), Mesh(*box(), instance=1, category=4)]
    with pytest.raises(hoirt.InputError, match="two meshes have the instance id 1"):
        hoirt.render(meshes, CAMERA)


def test_the_gallery_is_made_by_its_example(tmp_path: Path) -> None:
    """docs/rendering.md shows what examples/render_gallery.py writes."""
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, str(root / "examples" / "render_gallery.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == sorted(path.name for path in (root / "docs" / "images").glob("render_*.png"))
    for name in written:
        ours, shown = (np.asarray(Image.open(folder / name)) for folder in (tmp_path, root / "docs/images"))
        assert (ours != shown).mean() < 0.01, f"docs/images/{name} is not what the example writes"


# --- occlusion ---

CLOSE = View((600.0, 600.0, 160.0, 120.0), None, (240, 320))


def test_all_joints_of_an_open_hand_are_visible() -> None:
    seen = hoirt.joint_occlusion(hand(), CLOSE)
    assert seen.visible.all() and seen.state.shape == (1, 1, 21) and seen.hands == (0,)


def test_a_box_before_the_fingers_hides_them() -> None:
    """Which joints is told by rays from the camera through them."""
    mesh = hand()
    cube = Mesh(*box(0.05, (-0.01, 0.0, 0.4)))
    solid = trimesh.Trimesh(np.asarray(cube.vertices), np.asarray(cube.faces))
    joints = np.asarray(mesh.joints, np.float64)
    hidden = solid.ray.intersects_any(np.zeros((21, 3)), joints)
    assert 2 < hidden.sum() < 15
    for rule in ("depth", "mask"):
        found = hoirt.joint_occlusion([cube, mesh], CLOSE, object_rule=rule)
        np.testing.assert_array_equal(found.by_object[0, 0], hidden)
        np.testing.assert_array_equal(found.state[0, 0], np.where(hidden, 2, 0))
    behind = Mesh(*box(0.05, (-0.01, 0.0, 0.7)))
    assert hoirt.joint_occlusion([behind, mesh], CLOSE).visible.all()


def test_a_hand_seen_from_its_thumb_hides_its_fingers() -> None:
    """A ray from the camera that meets the hand further before the joint than the margin, by trimesh."""
    model = HandModel.load("right")
    posed = model(np.zeros(48))
    view = View.around(posed.vertices, (480, 640), towards=(0, 0, -1))
    solid = trimesh.Trimesh(posed.vertices[0], model.faces, process=False)
    eye = np.linalg.inv(view.extrinsics[0])[:3, 3]
    joints = posed.keypoints[0].astype(np.float64)
    pixels, _ = view.project(joints[None])
    # Through the middle of the joint's pixel, as the z-buffer sees it.
    centres = np.floor(pixels[0]) + 0.5
    inner = view.intrinsics[0]
    rays = np.c_[(centres - inner[2:]) / inner[:2], np.ones(21)] @ view.extrinsics[0, :3, :3]
    points, index, _ = solid.ray.intersects_location(np.tile(eye, (21, 1)), rays, multiple_hits=False)
    _, reach = view.project(points[None])
    _, depth = view.project(joints[None])
    for margin in (0.012, 0.03):
        expected = np.zeros(21, bool)
        expected[index] = reach[0] < depth[0, index] - margin
        found = hoirt.joint_occlusion(
            Mesh(posed.vertices, model.faces, joints=posed.keypoints), view, margin=margin
        )
        assert 3 < expected.sum() < 21
        np.testing.assert_array_equal(found.by_self[0, 0], expected)
        np.testing.assert_array_equal(found.state[0, 0] == 1, expected)


def test_occlusion_takes_arrays_of_any_library() -> None:
    from hoirt import _core

    torch = pytest.importorskip("torch")
    mesh = hand()
    expected = hoirt.joint_occlusion(mesh, CLOSE).state
    for convert in (torch.from_numpy, _core.Tensor):
        other = Mesh(convert(mesh.vertices), mesh.faces, joints=convert(mesh.joints))
        np.testing.assert_array_equal(hoirt.joint_occlusion(other, CLOSE).state, expected)


def test_a_mask_of_a_network_takes_the_place_of_the_objects() -> None:
    mesh = hand()
    mask = np.zeros((240, 320), bool)
    mask[:, :120] = True
    found = hoirt.joint_occlusion(mesh, CLOSE, object_mask=mask)
    pixels, _ = CLOSE.project(np.asarray(mesh.joints)[None])
    np.testing.assert_array_equal(found.by_object[0, 0], pixels[0, :, 0] < 120)


def test_joints_outside_of_the_picture_are_neither() -> None:
    mesh = hand()
    narrow = View((600.0, 600.0, 20.0, 120.0), None, (240, 100))
    pixels, _ = narrow.project(np.asarray(mesh.joints)[None])
    outside = (pixels[0, :, 0] < 0) | (pixels[0, :, 0] >= 100)
    found = hoirt.joint_occlusion(mesh, narrow)
    assert 0 < outside.sum() < 21
    np.testing.assert_array_equal(found.state[0, 0] == 3, outside)
    assert (hoirt.joint_occlusion(hand((0, 0, -1)), narrow).state == 3).all()


@pytest.mark.parametrize(
    ("meshes", "options", "message"),
    [
        (box(), {}, "no mesh has joints"),
        (hand(), {"margin": -1}, "margin must be metres >= 0"),
        (hand(), {"margin": np.nan}, "margin must be"),
        (hand(), {"margin": np.inf}, "margin must be"),
        (hand(), {"margin": np.zeros(5)}, "margin must be"),
        (hand(), {"object_rule": "guess"}, "object_rule must be"),
        (hand(), {"object_mask": np.zeros((3, 3), bool)}, r"object_mask must be \(1, 240, 320\)"),
        (hand(), {"object_mask": np.zeros((240, 320))}, "bool or integers"),
    ],
)
def test_bad_occlusion_arguments_are_refused(meshes: Any, options: Any, message: str) -> None:
    with pytest.raises(hoirt.InputError, match=message):
        hoirt.joint_occlusion(meshes, CLOSE, **options)


# --- nvdiffrast ---


@given(st.integers(0, 2**32 - 1))
def test_clip_space_is_where_nvdiffrast_samples(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 4000, 2)
    inner = rng.uniform([50, 50, -100, -100], [2000, 2000, 4000, 4000], (2, 4))
    near, far = 0.01, 9.0
    matrices = clip_matrices(inner, (int(height), int(width)), near, far)
    points = np.c_[rng.uniform(-1, 1, (30, 2)), rng.uniform(near, far, 30), np.ones(30)]
    for matrix, (fx, fy, cx, cy) in zip(matrices, inner, strict=True):
        x, y, z, w = (points @ matrix.T).T
        np.testing.assert_allclose(w, points[:, 2])
        # Pixel i of n is sampled at (2 i + 1) / n - 1, and hoirt's at i + 0.5.
        column, row = (x / w + 1) * width / 2, (y / w + 1) * height / 2
        np.testing.assert_allclose(column, fx * points[:, 0] / points[:, 2] + cx, rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(row, fy * points[:, 1] / points[:, 2] + cy, rtol=1e-9, atol=1e-6)
        assert (np.abs(z) <= w * (1 + 1e-9)).all()
        ends = np.array([[0, 0, near, 1], [0, 0, far, 1]]) @ matrix.T
        np.testing.assert_allclose(ends[:, 2] / ends[:, 3], [-1, 1], atol=1e-9)


def test_maps_from_nvdiffrasts_raster_are_hoirts() -> None:
    """A raster made from hoirt's own weights and faces gives back hoirt's maps."""
    torch = pytest.importorskip("torch")
    from hoirt.render.nvdiffrast import resolved

    vertices, faces = box()
    maps = hoirt.render((vertices, faces), CAMERA, modes=ALL)
    depth = maps.depth[..., None]
    index = (maps.faces + 1)[..., None].astype(np.float32)
    raster = torch.from_numpy(np.concatenate([maps.barycentrics[..., :2], depth, index], axis=-1))
    found = resolved(
        raster,
        torch.from_numpy(vertices)[None].double(),
        torch.from_numpy(faces),
        torch.full((12,), 4, dtype=torch.int32),
        ("depth", "instances", "faces", "barycentrics", "normals", "silhouette"),
    )
    np.testing.assert_allclose(found["depth"], maps.depth, rtol=1e-5)
    np.testing.assert_array_equal(found["faces"], maps.faces)
    np.testing.assert_array_equal(found["instances"], np.where(maps.faces < 0, -1, 4))
    np.testing.assert_allclose(found["normals"], maps.normals, atol=1e-5)
    np.testing.assert_allclose(found["barycentrics"], maps.barycentrics, atol=1e-5)
    np.testing.assert_array_equal(found["silhouette"].numpy() != 0, maps.silhouette)


def test_nvdiffrast_where_it_is_not_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "nvdiffrast", None)
    monkeypatch.setitem(sys.modules, "nvdiffrast.torch", None)
    with pytest.raises(hoirt.BackendError, match="needs nvdiffrast and torch"):
        nvdiffrast_rasterize(*box(), intrinsics=CAMERA.intrinsics, size=SIZE)
