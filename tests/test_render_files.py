"""Mesh files, scene files and what is written, against trimesh, OpenEXR, Pillow and PyAV; hostile files."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import hoirt
import numpy as np
import pytest
import trimesh
from hoirt.hands.model import HandModel
from hoirt.render.exr import exr_bytes
from hoirt.render.read import read_mesh
from hoirt.render.scene import read_scene
from hoirt.render.write import millimetres, numbered, write_exr, write_png, write_png16, write_video
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_st
from PIL import Image


def two_boxes() -> trimesh.Scene:
    scene = trimesh.Scene()
    scene.add_geometry(trimesh.creation.box((0.1, 0.1, 0.1)), node_name="near")
    lifted = np.eye(4)
    lifted[:3, 3] = 0, 0, -0.5
    scene.add_geometry(trimesh.creation.icosphere(2, 0.1), node_name="far", transform=lifted)
    return scene


# --- reading meshes ---


@pytest.mark.parametrize("suffix", ["obj", "ply", "stl", "glb"])
def test_mesh_files_hold_what_was_written(suffix: str, tmp_path: Path) -> None:
    solid = trimesh.creation.icosphere(2, 0.1)
    path = tmp_path / f"ball.{suffix.upper()}"
    path.write_bytes(exported(solid, suffix))
    mesh = read_mesh(path)
    theirs = np.asarray(solid.triangles)
    np.testing.assert_allclose(mesh.vertices[mesh.faces], theirs, atol=1e-6)
    assert set(np.unique(mesh.parts)) == {0} and mesh.name == path.name
    view = hoirt.View.around(mesh.vertices, (40, 50))
    depth = hoirt.render(path, view).depth
    np.testing.assert_allclose(depth, hoirt.render(solid, view).depth, atol=1e-6)
    assert 300 < (depth > 0).sum() < 1600


def exported(solid: Any, suffix: str) -> bytes:
    data = solid.export(file_type=suffix)
    return data if isinstance(data, bytes) else data.encode()


def test_a_scene_is_flattened_and_its_geometries_are_parts(tmp_path: Path) -> None:
    path = tmp_path / "two.glb"
    path.write_bytes(exported(two_boxes(), "glb"))
    mesh = read_mesh(path)
    assert len(mesh.faces) == 12 + 320 and np.unique(mesh.parts, return_counts=True)[1].tolist() == [320, 12]
    far = mesh.vertices[mesh.faces[mesh.parts == 0]]
    assert far[..., 2].max() < -0.35


def test_a_mirrored_instance_still_looks_outwards(tmp_path: Path) -> None:
    scene = trimesh.Scene()
    scene.add_geometry(trimesh.creation.icosphere(2, 0.1), transform=np.diag([-1.0, 1, 1, 1]))
    from hoirt.render.read import flatten

    mesh = flatten(scene, "mirrored")
    assert trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).volume > 0


@pytest.mark.parametrize("suffix", ["obj", "ply", "stl", "glb"])
@pytest.mark.parametrize("damage", ["empty", "half", "noise", "picture"])
def test_damaged_mesh_files_are_refused(suffix: str, damage: str, tmp_path: Path) -> None:
    whole = exported(trimesh.creation.icosphere(2, 0.1), suffix)
    noise = np.random.default_rng(0).bytes(4000)
    data = {"empty": b"", "half": whole[: len(whole) // 2], "noise": noise, "picture": b"\x89PNG\r\n" + noise}
    path = tmp_path / f"bad.{suffix}"
    path.write_bytes(data[damage])
    if (suffix, damage) == ("obj", "half"):
        pytest.skip("half of an OBJ file is an OBJ file")
    with pytest.raises(hoirt.InputError, match=r"bad\."):
        hoirt.render(path, hoirt.View((50, 50, 20, 20), None, (40, 40)))


WHOLE = {
    suffix: exported(trimesh.creation.icosphere(1, 0.1), suffix) for suffix in ("obj", "ply", "stl", "glb")
}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(suffix=st.sampled_from(sorted(WHOLE)), seed=st.integers(0, 2**32 - 1), count=st.integers(1, 12))
def test_changed_bytes_give_a_mesh_or_an_error(suffix: str, seed: int, count: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    data = np.frombuffer(WHOLE[suffix], np.uint8).copy()
    data[rng.integers(0, min(len(data), 10 ** int(rng.integers(2, 5))), count)] = rng.integers(0, 256, count)
    path = tmp_path / f"changed.{suffix}"
    path.write_bytes(data.tobytes())
    try:
        depth = hoirt.render(path, hoirt.View((50, 50, 20, 20), None, (40, 40)), modes="depth").depth
    except (hoirt.InputError, hoirt.OutOfMemory):
        return
    assert np.isfinite(depth).all()


def test_flat_vertices_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "flat.obj"
    path.write_text("v 0 0\nv 1 0\nv 0 1\nf 1 2 3\n")
    with pytest.raises(hoirt.InputError, match=r"flat\.obj"):
        read_mesh(path)


def test_a_ply_that_promises_too_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.ply"
    header = (
        "ply\nformat binary_little_endian 1.0\nelement vertex 999999999999\nproperty float x\n"
        "property float y\nproperty float z\nelement face 1\n"
        "property list uchar int vertex_indices\nend_header\n"
    )
    path.write_bytes(header.encode() + b"\0" * 99)
    with pytest.raises((hoirt.InputError, hoirt.OutOfMemory), match=r"huge\.ply"):
        read_mesh(path)


def test_what_is_no_mesh_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.obj").mkdir()
    (tmp_path / "notes.txt").write_text("v 0 0 0")
    points = tmp_path / "points.ply"
    points.write_bytes(exported(trimesh.PointCloud(np.eye(3)), "ply"))
    for name, message in (
        ("folder.obj", "is a folder"),
        ("notes.txt", "names no mesh format; use .obj"),
        ("none.obj", "does not exist"),
        ("points.ply", "holds no triangles"),
    ):
        with pytest.raises(hoirt.InputError, match=message):
            read_mesh(tmp_path / name)


def test_references_of_a_mesh_file_are_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GLB with its buffer elsewhere fails; an OBJ's material is not looked for."""
    import socket

    monkeypatch.setattr(socket, "create_connection", lambda *a, **k: pytest.fail("the network was used"))
    (tmp_path / "secret.bin").write_bytes(b"\0" * 1024)
    whole = exported(trimesh.creation.box((0.1, 0.1, 0.1)), "glb")
    length = struct.unpack("<I", whole[12:16])[0]
    tree = json.loads(whole[20 : 20 + length])
    for uri in ("secret.bin", "../secret.bin", "file:///etc/hostname", "http://127.0.0.1:9/x.bin"):
        tree["buffers"][0]["uri"] = uri
        text = json.dumps(tree).encode()
        text += b" " * (-len(text) % 4)
        rest = whole[20 + length :]
        changed = struct.pack("<4sII", b"glTF", 2, 20 + len(text) + len(rest))
        path = tmp_path / "refers.glb"
        path.write_bytes(changed + struct.pack("<I4s", len(text), b"JSON") + text + rest)
        try:
            mesh = read_mesh(path)
        except hoirt.InputError as error:
            assert "refers.glb" in str(error)
        else:  # the file's own buffer was taken
            assert len(mesh.faces) == 12
    obj = tmp_path / "refers.obj"
    obj.write_text("mtllib ../../secret.mtl\nusemtl a\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    assert len(read_mesh(obj).faces) == 1


def test_without_trimesh_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    monkeypatch.setitem(sys.modules, "trimesh", None)
    with pytest.raises(hoirt.BackendError, match=r'pip install "hoirt\[mesh\]"'):
        read_mesh(tmp_path / "a.obj")


# --- scene files ---


def scene_file(folder: Path, **changes: Any) -> Path:
    """A hand that moves over two frames and a box from a file."""
    (folder / "box.stl").write_bytes(exported(trimesh.creation.box((0.05, 0.05, 0.05)), "stl"))
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[:, :3, 3] = [[0, 0, 0.6], [0.02, 0, 0.6]]
    np.save(folder / "poses.npy", poses)
    scene = {
        "version": 1,
        "size": [48, 64],
        "fps": 30,
        "camera": {"intrinsics": [70, 70, 32, 24]},
        "meshes": [
            {"hand": "right", "poses": "poses.npy", "instance": 4},
            {"path": "box.stl", "poses": poses[0].tolist(), "category": 3, "scale": 2, "name": "cup"},
        ],
        **changes,
    }
    path = folder / "scene.json"
    path.write_text(json.dumps(scene))
    return path


def test_a_scene_file_says_what_to_render(tmp_path: Path) -> None:
    scene = read_scene(scene_file(tmp_path))
    assert scene.fps == 30 and scene.view.size == (48, 64)
    maps = hoirt.render(scene.meshes, scene.view)
    model = HandModel.load("right")
    posed = model(np.zeros(48))
    cube = trimesh.creation.box((0.1, 0.1, 0.1))
    poses = np.load(tmp_path / "poses.npy")
    expected = hoirt.render(
        [
            hoirt.Mesh(posed.vertices, model.faces, poses, 4, joints=posed.keypoints),
            hoirt.Mesh(np.asarray(cube.vertices), np.asarray(cube.faces), poses[0], 1, category=3),
        ],
        scene.view,
    )
    np.testing.assert_allclose(maps.depth, expected.depth, atol=1e-6)
    np.testing.assert_allclose(maps.keypoints, expected.keypoints, rtol=1e-6)
    assert dict(maps.categories) == {4: "hand", 1: 3} and maps.frames == 2


TRIANGLE = {"vertices": [[0, 0, 1], [1, 0, 1], [0, 1, 1]], "faces": [[0, 1, 2]]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "version: found the number 2"),
        ({"colour": 1}, "colour: unknown key; known here: version"),
        ({"size": [48]}, "size: found an array of 1, expected an array of 2"),
        ({"size": [48, 9000]}, r"size\[1\]: found the number 9000"),
        ({"fps": 0}, "fps: found the number 0"),
        ({"camera": {}}, "camera.intrinsics: is missing"),
        ({"camera": {"intrinsics": [70, 70, 32]}}, "intrinsics must be"),
        ({"camera": {"intrinsics": [[70, 0], [1]]}}, "camera.intrinsics: found an array of 2, expected rows"),
        ({"camera": {"intrinsics": [70, "a", 32, 24]}}, r"intrinsics\[1\]: found the string"),
        ({"camera": {"intrinsics": [70, True, 32, 24]}}, r"intrinsics\[1\]: found true"),
        ({"camera": {"intrinsics": [70, 70, 32, 24], "extrinsics": [[1]]}}, "extrinsics must be"),
        ({"meshes": {}}, "meshes: found an object"),
        ({"meshes": [1]}, r"meshes\[0\]: found the number 1"),
        ({"meshes": [{"path": "/etc/hostname"}]}, r"meshes\[0\].path: .*relative to the scene"),
        ({"meshes": [{"path": "../box.stl"}]}, r"meshes\[0\].path: .*relative to the scene"),
        ({"meshes": [{"path": "a/../../box.stl"}]}, r"meshes\[0\].path: .*relative to the scene"),
        ({"meshes": [{"path": "file:box.stl"}]}, r"meshes\[0\].path: .*relative to the scene"),
        ({"meshes": [{"path": "..\\box.stl"}]}, r"meshes\[0\].path: .*relative to the scene"),
        ({"meshes": [{"path": ""}]}, r"meshes\[0\].path: .*relative to the scene"),
        ({"meshes": [{"path": "none.stl"}]}, r"meshes\[0\].path: .*of a file that exists"),
        ({"meshes": [{"path": "link.stl"}]}, r"meshes\[0\].path: .*a link leads out of it"),
        ({"meshes": [{"path": "scene.json"}]}, "names no mesh format"),
        ({"meshes": [{"path": "box.stl", "vertices": "box.stl"}]}, "expected an .npy file"),
        (
            {"meshes": [{"path": "box.stl", "vertices": "objects.npy"}]},
            "objects.npy is no readable .npy file",
        ),
        ({"meshes": [{"path": "box.stl", "vertices": "short.npy"}]}, "short.npy is no readable .npy file"),
        ({"meshes": [{"path": "box.stl", "vertices": "text.npy"}]}, "text.npy must hold numbers"),
        ({"meshes": [{"path": "box.stl", "category": "dog"}]}, r'category: .*expected "hand" or the number'),
        ({"meshes": [{"path": "box.stl", "category": True}]}, r'category: .*expected "hand" or the number'),
        ({"meshes": [{"path": "box.stl", "instance": -1}]}, "instance: found the number -1"),
        ({"meshes": [{"path": "box.stl", "scale": 0}]}, "scale: found the number 0"),
        ({"meshes": [{"path": "box.stl", "hand": "left"}]}, "path: unknown key; known here: hand"),
        ({"meshes": [{"hand": "middle"}]}, "hand: found the string 'middle'"),
        ({"meshes": [{"hand": "left", "pose": [0, 1]}]}, "pose must have shape"),
        ({"meshes": [{**TRIANGLE, "faces": [[0, 1]]}]}, r"faces\[0\]: found an array of 2"),
        ({"meshes": [{**TRIANGLE, "faces": [[0, 1, 2.5]]}]}, r"faces\[0\]\[2\]: found the number 2.5"),
        ({"meshes": [{**TRIANGLE, "faces": "floats.npy"}]}, "floats.npy must hold integers"),
    ],
)
def test_bad_scene_files_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    np.save(inside / "objects.npy", np.array([{}, None]), allow_pickle=True)
    np.save(inside / "text.npy", np.array(["a", "b"]))
    np.save(inside / "floats.npy", np.zeros((1, 3)))
    np.save(inside / "short.npy", np.zeros((1000, 3)))
    (inside / "short.npy").write_bytes((inside / "short.npy").read_bytes()[:300])
    (tmp_path / "outside.stl").write_bytes(exported(trimesh.creation.box((1, 1, 1)), "stl"))
    (inside / "link.stl").symlink_to(tmp_path / "outside.stl")
    with pytest.raises(hoirt.InputError, match=message):
        read_scene(scene_file(inside, **changes))


def test_a_triangle_in_the_file_itself(tmp_path: Path) -> None:
    scene = read_scene(scene_file(tmp_path, meshes=[TRIANGLE]))
    assert (hoirt.render(scene.meshes, scene.view).depth > 0).sum() > 500


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b'{"version": NaN}', b"[" * 100_000])
def test_files_that_are_no_scene_are_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "scene.json"
    path.write_bytes(data)
    with pytest.raises(hoirt.InputError, match=r"scene\.json"):
        read_scene(path)
    with pytest.raises(hoirt.InputError, match="not a file"):
        read_scene(tmp_path)


# --- writing ---


@settings(max_examples=30, deadline=None)
@given(
    st.sets(st.sampled_from(["Z", "R", "G", "B", "left.Y"]), min_size=1).flatmap(
        lambda names: st.tuples(st.just(sorted(names)), st.integers(1, 7), st.integers(1, 9))
    ),
    st.integers(0, 2**32 - 1),
)
def test_exr_files_are_read_by_openexr(tmp_path_factory: Any, shape: Any, seed: int) -> None:
    exr = pytest.importorskip("OpenEXR", reason="OpenEXR is not installed")
    names, height, width = shape
    rng = np.random.default_rng(seed)
    channels = {name: rng.standard_normal((height, width)).astype(np.float32) for name in names}
    path = tmp_path_factory.mktemp("exr") / "a.exr"
    path.write_bytes(exr_bytes(channels))
    with exr.File(str(path), separate_channels=True) as file:
        found = file.channels()
        assert set(found) == set(names)
        for name in names:
            np.testing.assert_array_equal(found[name].pixels, channels[name])


def test_maps_become_exr_channels(tmp_path: Path) -> None:
    exr = pytest.importorskip("OpenEXR", reason="OpenEXR is not installed")
    normals = np.random.default_rng(0).standard_normal((5, 6, 3)).astype(np.float32)
    with exr.File(str(write_exr(tmp_path / "n.exr", normals)), separate_channels=True) as file:
        np.testing.assert_array_equal(np.dstack([file.channels()[c].pixels for c in "RGB"]), normals)
    with exr.File(str(write_exr(tmp_path / "z.exr", normals[..., 0])), separate_channels=True) as file:
        np.testing.assert_array_equal(file.channels()["Z"].pixels, normals[..., 0])


@given(numpy_st.arrays(np.float32, (3, 4), elements=st.floats(0, 65.5, width=32)))
def test_millimetres_are_rounded_and_never_lose_a_pixel(depth: Any) -> None:
    written = millimetres(depth)
    assert ((written > 0) == (depth > 0)).all()
    np.testing.assert_allclose(written, depth.astype(np.float64) * 1000, atol=1.0)


def test_16_bit_pictures_keep_their_values(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (9, 11)).astype(np.uint16)
    read = np.asarray(Image.open(write_png16(tmp_path / "a.png", values)))
    np.testing.assert_array_equal(read, values)
    ids = np.array([[-1, 0], [65534, 7]], np.int32)
    assert numbered(ids).tolist() == [[0, 1], [65535, 8]]


@pytest.mark.parametrize("colour", [True, False])
def test_a_video_shows_its_frames(colour: bool, tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    y, x = np.mgrid[:48, :64]
    frames = np.stack([(x * 2 + y + 9 * n) % 256 for n in range(5)]).astype(np.uint8)
    if colour:
        frames = np.stack([frames, frames // 2, 255 - frames], axis=-1)
    path = write_video(tmp_path / "a.mp4", frames, fps=12.5, quality=4)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == 12.5 and stream.codec_context.name == "h264"
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
    expected = frames if colour else np.repeat(frames[..., None], 3, axis=-1)
    assert decoded.shape == expected.shape
    assert np.abs(decoded.astype(int) - expected).mean() < 9  # the colours' resolution is halved
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]


GREY = np.zeros((2, 4, 6), np.uint8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: write_video(f / "a.mp4", GREY.astype(np.float32)), "needs uint8"),
        (lambda f: write_video(f / "a.mp4", GREY[:, :3]), "even sides, not 2 of 3x6; 4x6 is right"),
        (lambda f: write_video(f / "a.mp4", GREY[:0]), "even sides, not 0"),
        (lambda f: write_video(f / "a.mp4", GREY, fps=float("nan")), "fps must be"),
        (lambda f: write_video(f / "a.mp4", GREY, quality=52), "quality must be"),
        (lambda f: write_video(f / "a.avi", GREY), "must end in .mp4"),
        (lambda f: write_video(f / "no" / "a.mp4", GREY), "the folder .* does not exist"),
        (lambda f: write_png(f / "a.png", GREY[0].astype(np.uint16)), "needs uint8"),
        (lambda f: write_png(f / "a.jpg", GREY[0]), "must end in .png"),
        (lambda f: write_png16(f / "a.png", GREY[0]), "needs uint16"),
        (lambda f: write_exr(f / "a.exr", GREY), r"needs \(H, W\) or \(H, W, 3\)"),
        (lambda f: write_exr(f / "a.exr", np.zeros((0, 3), np.float32)), "all of one shape"),
        (lambda f: exr_bytes({}), "one or more channels"),
        (lambda f: exr_bytes({"é": GREY[0]}), "channel names"),
        (lambda f: millimetres(np.float32([[66.0]])), "0..65.535 m"),
        (lambda f: millimetres(np.float32([[np.nan]])), "0..65.535 m"),
        (lambda f: millimetres(np.float32([[-1.0]])), "0..65.535 m"),
        (lambda f: numbered(np.int32([[65535]])), "ids 0..65534"),
    ],
)
def test_what_cannot_be_written_is_refused(call: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(hoirt.InputError, match=message):
        call(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_video_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed")

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "a.mp4", GREY, on_progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(hoirt.BackendError, match=r'pip install "hoirt\[video\]"'):
        write_video(tmp_path / "a.mp4", GREY)
