"""Mesh files against trimesh: every format, damaged ones, ones that refer to other files."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import hoirt
import numpy as np
import pytest
import trimesh
from hoirt.render.read import read_mesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def two_boxes() -> trimesh.Scene:
    scene = trimesh.Scene()
    scene.add_geometry(trimesh.creation.box((0.1, 0.1, 0.1)), node_name="near")
    lifted = np.eye(4)
    lifted[:3, 3] = 0, 0, -0.5
    scene.add_geometry(trimesh.creation.icosphere(2, 0.1), node_name="far", transform=lifted)
    return scene


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


@pytest.mark.parametrize("number", ["nan", "inf", "1e999"])
def test_a_vertex_that_is_not_finite_is_refused(number: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.obj"
    path.write_text(f"v 0 0 {number}\nv 1 0 1\nv 0 1 1\nf 1 2 3\n")
    with pytest.raises(hoirt.InputError, match=r"bad\.obj holds a vertex that is NaN or infinite"):
        read_mesh(path)


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
