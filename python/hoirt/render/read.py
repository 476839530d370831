"""Meshes from OBJ, PLY, STL and GLB files, through trimesh; nothing but the file itself is ever read."""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np

from hoirt.errors import BackendError, InputError, OutOfMemory
from hoirt.paths import path_of
from hoirt.render.mesh import Mesh

SUFFIXES = (".obj", ".ply", ".stl", ".glb")
MAX_BYTES = 1 << 30


def read_mesh(path: str | os.PathLike[str]) -> Mesh:
    """The mesh in a file, its scene flattened; the faces of each geometry are a part of their own.

    Vertices keep the file's order, unit and axes; hoirt takes them as metres. Materials, textures and
    whatever else a file refers to, on disk or elsewhere, are not read.

    Raises:
        InputError: not a file, another format, larger than 1 GiB, truncated, damaged, or without triangles.
        BackendError: trimesh is not installed.
    """
    path = path_of(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(
            f"{path}: the suffix {path.suffix!r} names no mesh format; use {', '.join(SUFFIXES)}"
        )
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a mesh file")
    if not path.is_file():
        raise InputError(f"{path} does not exist or is not a file")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} has {path.stat().st_size} bytes; at most {MAX_BYTES} are read")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    return flatten(_parse(data, suffix[1:], str(path)), path.name)


def flatten(scene: Any, what: str) -> Mesh:
    """A trimesh Scene as one Mesh in its world frame; `what` names it in messages.

    Raises:
        InputError: the scene holds no triangles, or a vertex that is not finite.
    """
    vertices: list[Any] = []
    faces: list[Any] = []
    parts: list[Any] = []
    offset = 0
    numbers: dict[str, int] = {}
    for node in sorted(scene.graph.nodes_geometry, key=str):  # the same numbers every time
        transform, geometry_name = scene.graph[node]
        geometry = scene.geometry[geometry_name]
        triangles = np.asarray(getattr(geometry, "faces", ()))
        if triangles.size == 0:  # lines and point clouds
            continue
        points = np.asarray(geometry.vertices, np.float64)
        if points.shape[1:] != (3,) or triangles.shape[1:] != (3,):
            raise InputError(f"{what} holds vertices or faces that do not have three numbers each")
        if np.linalg.det(transform[:3, :3]) < 0:  # a mirrored instance would look inside out
            triangles = triangles[:, ::-1]
        with np.errstate(all="ignore"):  # what is not finite is refused below
            vertices.append(points @ transform[:3, :3].T + transform[:3, 3])
        faces.append(triangles + offset)
        parts.append(np.full(len(triangles), numbers.setdefault(str(node), len(numbers)), np.int32))
        offset += len(points)
    if not faces:
        raise InputError(f"{what} holds no triangles")
    points = np.concatenate(vertices)
    if not np.isfinite(points).all():
        raise InputError(f"{what} holds a vertex that is NaN or infinite")
    return Mesh(points, np.concatenate(faces), parts=np.concatenate(parts), name=what)


class _Nothing(dict[str, bytes]):
    """The resolver of files that a mesh refers to: there are none, whatever their name."""

    def get(self, key: str, default: Any = None) -> Any:
        raise FileNotFoundError(f"it refers to another file, {ascii(key)[:80]}, which hoirt does not read")

    __getitem__ = get

    def namespaced(self, namespace: str) -> _Nothing:
        return self


def _parse(data: bytes, file_type: str, what: str) -> Any:
    try:
        import trimesh
    except ImportError as error:
        raise BackendError(
            f'{what}: meshes are read by trimesh: pip install "hoirt[mesh]" ({error})'
        ) from error
    options: dict[str, Any] = {"process": False} | ({"skip_materials": True} if file_type == "obj" else {})
    try:
        return trimesh.load_scene(io.BytesIO(data), file_type=file_type, resolver=_Nothing(), **options)
    except MemoryError as error:
        raise OutOfMemory(f"{what} says that it holds more than there is memory for") from error
    except Exception as error:  # parsers of damaged files raise nearly anything
        raise InputError(f"{what} is no readable {file_type.upper()} mesh: {error}") from error
