"""Mesh: a triangle mesh that stands still or moves over a clip, and what else can be read as one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from hoirt.errors import InputError
from hoirt.hands.hand import Hand
from hoirt.imaging.arrays import is_array
from hoirt.render.arrays import axis_arrays, is_finite, is_floating, is_integral, to_int32

JOINTS = 21
MAX_ID = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh. Arrays are NumPy, or any DLPack array; all of one scene on one device.

    Args:
        vertices: (V, 3), or (N, V, 3) over N frames; float32 or float64, metres.
        faces: (F, 3) integers 0..V-1, counter-clockwise seen from outside.
        poses: object to world, (4, 4), or (N, 4, 4) over N frames; affine, so it may scale; None: identity.
        instance: id >= 0 that the mesh has in the segmentation; None: its place in the scene.
        parts: (F,) integers >= 0, a part number for each face; None: all 0.
        category: what it is, for segmentation palettes: "hand", or an object's number in DexYCB (1..21) or
            OakInk2 (2..120); None: "hand" if it has joints, else unknown.
        joints: (21, 3) or (N, 21, 3) in the frame of the vertices: wrist, thumb, index, middle, ring, pinky,
            four each, tips last. A mesh with joints is a hand.
        name: for messages.
    """

    vertices: Any
    faces: Any
    poses: Any = None
    instance: int | None = None
    parts: Any = None
    category: Literal["hand"] | int | None = None
    joints: Any = None
    name: str = ""

    @property
    def is_hand(self) -> bool:
        """Whether the mesh counts as a hand."""
        return self.category == "hand" or (self.category is None and self.joints is not None)

    @property
    def frames(self) -> int:
        """How many frames the mesh moves over; 1 if it stands still. For checked meshes."""
        arrays = (self.vertices, self.poses, self.joints)
        return max(len(array) for array in arrays if array is not None)


def as_meshes(source: Any) -> list[Mesh]:
    """`source` as checked meshes: one or a sequence of Mesh, Hand, (vertices, faces), trimesh object, path.

    In the result vertices are (N or 1, V, 3), faces and parts int32, poses (N or 1, 4, 4), joints
    (N or 1, 21, 3), and every mesh has an instance id.

    Raises:
        InputError: not a mesh; wrong shapes, dtypes or ranges; NaN; numbers of frames that do not agree.
    """
    several = isinstance(source, Sequence) and not isinstance(source, str) and not _is_pair(source)
    found: list[Mesh] = [_as_mesh(item, index) for index, item in enumerate(source if several else [source])]
    if not found:
        raise InputError("there is no mesh to render")
    checked = [_checked(mesh, index) for index, mesh in enumerate(found)]
    lengths = {mesh.frames for mesh in checked} - {1}
    if len(lengths) > 1:
        raise InputError(
            f"the meshes move over {' and '.join(map(str, sorted(lengths)))} frames; one number is needed"
        )
    return checked


def _is_pair(source: Any) -> bool:
    return (
        isinstance(source, tuple)
        and not isinstance(source, Hand)
        and len(source) == 2
        and all(is_array(item) or isinstance(item, list) for item in source)
    )


def _as_mesh(item: Any, index: int) -> Mesh:
    if isinstance(item, Mesh):
        return item
    if isinstance(item, Hand):
        return Mesh(item.vertices, item.faces, joints=item.joints, name=f"{item.side} hand")
    if isinstance(item, str | os.PathLike):
        from hoirt.render.read import read_mesh

        return read_mesh(item)
    if _is_pair(item):
        return Mesh(*item)
    if hasattr(item, "geometry") and hasattr(item, "graph"):
        from hoirt.render.read import flatten

        return flatten(item, f"mesh {index}")
    if hasattr(item, "vertices") and hasattr(item, "faces"):  # trimesh, Open3D-like, PyTorch3D-like
        vertices, faces = item.vertices, item.faces
        return Mesh(_plain(vertices), _plain(faces))
    raise InputError(
        f"mesh {index} is a {type(item).__name__}; use hoirt.Mesh, a tuple (vertices, faces), a trimesh "
        "object, a hoirt.Hand, or the path of an OBJ, PLY, STL or GLB file"
    )


def _plain(array: Any) -> Any:
    """NumPy subclasses, such as trimesh's tracked arrays, as plain arrays; others as they are."""
    return array.view(np.ndarray) if isinstance(array, np.ndarray) else array


def _checked(mesh: Mesh, index: int) -> Mesh:
    what = f"mesh {index}" + (f" ({mesh.name})" if mesh.name else "")
    vertices = _moving(mesh.vertices, f"the vertices of {what}", None)
    count = vertices.shape[1]
    faces = axis_arrays(mesh.faces, f"the faces of {what}")
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.shape[0] == 0:
        raise InputError(f"the faces of {what} must be (F, 3), not {tuple(faces.shape)}")
    faces = _indices(faces, count - 1, f"the faces of {what}", f"it has {count} vertices")
    parts = None
    if mesh.parts is not None:
        parts = axis_arrays(mesh.parts, f"the parts of {what}")
        if tuple(parts.shape) != (faces.shape[0],):
            raise InputError(f"the parts of {what} must be ({faces.shape[0]},), not {tuple(parts.shape)}")
        parts = _indices(parts, MAX_ID, f"the parts of {what}", "they are int32")
    poses = None
    if mesh.poses is not None:
        poses = _moving(mesh.poses, f"the poses of {what}", (4, 4))
    joints = None
    if mesh.joints is not None:
        joints = _moving(mesh.joints, f"the joints of {what}", (JOINTS, 3))
    numbers = {"instance": mesh.instance, "category": None if mesh.category == "hand" else mesh.category}
    for name, value in numbers.items():
        if value is not None and not (_is_int(value) and 0 <= value <= MAX_ID):
            raise InputError(f"the {name} of {what} must be an integer 0..{MAX_ID}, not {value!r}")
    lengths = {len(array) for array in (vertices, poses, joints) if array is not None} - {1}
    if len(lengths) > 1:
        raise InputError(f"the vertices, poses and joints of {what} have {sorted(lengths)} frames")
    instance = index if mesh.instance is None else int(mesh.instance)
    return replace(
        mesh, vertices=vertices, faces=faces, parts=parts, poses=poses, joints=joints, instance=instance
    )


def _is_int(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _moving(values: Any, what: str, shape: tuple[int, int] | None) -> Any:
    """Floating (N or 1, A, B) of (A, B) or (N, A, B), finite; `shape` is (A, B), None: (any, 3)."""
    array = axis_arrays(values, what)
    wanted = shape or ("V", 3)
    good = array.ndim in (2, 3) and array.shape[-1] == wanted[1] and 0 not in tuple(array.shape)
    if not good or (shape and array.shape[-2] != shape[0]):
        raise InputError(
            f"{what} must be ({wanted[0]}, {wanted[1]}) or (N, {wanted[0]}, {wanted[1]}), "
            f"not {tuple(array.shape)}"
        )
    if not is_floating(array):
        raise InputError(f"{what} must be float32 or float64, not {array.dtype}")
    if not is_finite(array):
        raise InputError(f"{what} hold NaN or infinity")
    return array if array.ndim == 3 else array[None]


def _indices(array: Any, highest: int, what: str, reason: str) -> Any:
    if not is_integral(array):
        raise InputError(f"{what} must be integers, not {array.dtype}")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > highest:
        raise InputError(f"{what} hold {low if low < 0 else high}; {reason}, so 0..{highest} is right")
    return to_int32(array)
