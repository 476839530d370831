"""Scene files: what they say is rendered, and what they must not say is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import hoirt
import numpy as np
import pytest
import trimesh
from hoirt.hands.model import HandModel
from hoirt.render.scene import read_scene
from mano_tools import left_of, mano_constants, mano_pickle
from test_render_files import exported


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


def test_a_scene_names_a_mano_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOIRT_CACHE", "")
    (tmp_path / "MANO_LEFT.pkl").write_bytes(mano_pickle(left_of(mano_constants())))
    pose = np.random.default_rng(0).normal(0, 0.2, (2, 48))
    np.save(tmp_path / "pose.npy", pose)
    entry = {"mano": "MANO_LEFT.pkl", "pose": "pose.npy", "flat_hand_mean": False}
    mesh = read_scene(scene_file(tmp_path, meshes=[entry])).meshes[0]
    posed = hoirt.load_mano(tmp_path / "MANO_LEFT.pkl", flat_hand_mean=False)(pose)
    np.testing.assert_array_equal(mesh.vertices, posed.vertices)
    np.testing.assert_array_equal(mesh.joints, posed.keypoints)
    assert mesh.name == "left hand" and mesh.is_hand
    entry["flat_hand_mean"] = 1  # type: ignore[assignment]
    with pytest.raises(hoirt.InputError, match=r"flat_hand_mean: .*expected true or false"):
        read_scene(scene_file(tmp_path, meshes=[entry]))
    (tmp_path / "MANO_LEFT.pkl").write_bytes(pickle.dumps({"v_template": print}))
    with pytest.raises(hoirt.InputError, match="MANO_LEFT"):
        read_scene(scene_file(tmp_path, meshes=[{"mano": "MANO_LEFT.pkl"}]))


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
