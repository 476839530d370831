"""scene.json: meshes, their motion and the camera of a clip in one file; docs/rendering.md has the schema."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import InputError, PackError
from hoirt.packs.strict_json import Json, parse_json
from hoirt.paths import path_of
from hoirt.render.mesh import MAX_ID, Mesh
from hoirt.render.read import read_mesh
from hoirt.render.view import View

MAX_MESHES = 256
MAX_ROWS = 4096  # of one JSON array; more belongs into an .npy file
_ANY = 1e30


@dataclass(frozen=True, eq=False)
class Scene:
    """What a scene file says: `meshes` and `view` for `hoirt.render`, and `fps`, frames per second."""

    meshes: list[Mesh]
    view: View
    fps: float = 15.0


def read_scene(path: str | os.PathLike[str]) -> Scene:
    """Reads a scene file. Everything it names lies in its own folder or below.

    Raises:
        InputError: not a file; not JSON; a key or value that the schema does not know, with its place; a path
            that leads out of the folder; an array file that holds objects or is truncated; a mesh that cannot
            be read.
    """
    path = path_of(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist or is not a file")
    try:
        return _Reader(path.resolve().parent).scene(parse_json(path.read_bytes(), path.name))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    except PackError as error:  # the strict reader's own; here it is the user's file that is wrong
        raise InputError(str(error)) from None


class _Reader:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def scene(self, document: Json) -> Scene:
        found = document.members(("version", "size", "camera", "meshes"), ("fps",))
        found["version"].integer(1, 1)
        sides = [side.integer(1, 8192) for side in _of_length(found["size"], 2)]
        meshes = [self._mesh(mesh) for mesh in found["meshes"].array(MAX_MESHES)]
        camera = found["camera"].members(("intrinsics",), ("extrinsics",))
        extrinsics = self._array(camera["extrinsics"]) if "extrinsics" in camera else None
        view = View(self._array(camera["intrinsics"]), extrinsics, (sides[0], sides[1]))
        return Scene(meshes, view, found["fps"].number(0.1, 240.0) if "fps" in found else 15.0)

    def _mesh(self, entry: Json) -> Mesh:
        common = ("poses", "instance", "category", "name", "scale")
        keys = entry.value if isinstance(entry.value, dict) else ()
        if "hand" in keys or "mano" in keys:
            kind = "mano" if "mano" in keys else "hand"
            options = ("flat_hand_mean",) if kind == "mano" else ()
            found = entry.members((kind,), ("pose", "shape", *options, *common))
            mesh = self._hand(found)
        elif "path" in keys:
            found = entry.members(("path",), ("vertices", "joints", *common))
            mesh = read_mesh(self._path(found["path"]))
        else:
            found = entry.members(("vertices", "faces"), ("joints", *common))
            mesh = Mesh(None, self._integers(found["faces"]))
        scale = found["scale"].number(1e-9, 1e9) if "scale" in found else 1.0
        vertices = self._array(found["vertices"]) if "vertices" in found else mesh.vertices
        joints = self._array(found["joints"]) if "joints" in found else mesh.joints
        name = found["name"].text(limit=80) if "name" in found else mesh.name
        return Mesh(
            vertices * scale,
            mesh.faces,
            self._array(found["poses"]) if "poses" in found else None,
            found["instance"].integer(0, MAX_ID) if "instance" in found else None,
            mesh.parts,
            _category(found["category"]) if "category" in found else None,
            None if joints is None else joints * scale,
            name,
        )

    def _hand(self, found: dict[str, Json]) -> Mesh:
        """hoirt's own hand, or MANO's, in a pose."""
        if "mano" in found:
            from hoirt.hands.mano import load_mano

            flat = found["flat_hand_mean"].value if "flat_hand_mean" in found else True
            if not isinstance(flat, bool):
                found["flat_hand_mean"].fail("true or false")
            model = load_mano(self._path(found["mano"]), flat_hand_mean=flat)
        else:
            from hoirt.hands.model import HandModel

            model = HandModel.load(found["hand"].choice(("right", "left")))
        pose = self._array(found["pose"]) if "pose" in found else np.zeros(48)
        rows = len(pose) if pose.ndim == 2 else 1
        shape = self._array(found["shape"]) if "shape" in found else np.zeros(10)
        posed = model(pose, np.broadcast_to(shape, (rows, 10)) if shape.shape == (10,) else shape)
        return Mesh(posed.vertices, model.faces, joints=posed.keypoints, name=f"{model.side} hand")

    def _path(self, entry: Json) -> Path:
        """A file in the scene's folder or below, also after links are followed."""
        text = entry.text(limit=512)
        path = Path(text)
        if (
            not text
            or path.is_absolute()
            or ".." in path.parts
            or "\\" in text
            or ":" in text
            or "\0" in text
        ):
            entry.fail("a path relative to the scene file, in its folder or below, with / between names")
        target = (self.folder / path).resolve()
        if not target.is_relative_to(self.folder):
            entry.fail("a path that stays in the scene's folder; a link leads out of it")
        if not target.is_file():
            entry.fail("the path of a file that exists")
        return target

    def _array(self, entry: Json) -> NDArray[np.float64]:
        """Numbers, nested up to three deep, or the path of an .npy file of numbers."""
        if isinstance(entry.value, str):
            return self._npy(entry, "iuf").astype(np.float64)
        try:
            return np.array(_numbers(entry, 3), np.float64)
        except ValueError:
            entry.fail("rows of equal length")

    def _integers(self, entry: Json) -> NDArray[np.int64]:
        if isinstance(entry.value, str):
            array = self._npy(entry, "iu")
            if array.size and int(array.max()) > MAX_ID:
                entry.fail(f"integers of at most {MAX_ID}")
            return array.astype(np.int64)
        rows = [[cell.integer(0, MAX_ID) for cell in _of_length(row, 3)] for row in entry.array(MAX_ROWS)]
        return np.array(rows, np.int64).reshape(-1, 3)

    def _npy(self, entry: Json, kinds: Literal["iu", "iuf"]) -> NDArray[np.generic]:
        path = self._path(entry)
        if path.suffix != ".npy":
            entry.fail("an .npy file")
        try:
            # Mapped: a header that promises more than the file holds is refused before anything is allocated.
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError, SyntaxError, MemoryError) as error:
            raise InputError(f"{path.name} is no readable .npy file of numbers: {error}") from error
        if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds:
            raise InputError(f"{path.name} must hold {'integers' if kinds == 'iu' else 'numbers'}")
        return np.array(array)


def _of_length(entry: Json, length: int) -> list[Json]:
    found = entry.array(length)
    if len(found) != length:
        entry.fail(f"an array of {length}")
    return found


def _numbers(entry: Json, depth: int) -> Any:
    if depth and isinstance(entry.value, list):
        return [_numbers(child, depth - 1) for child in entry.array(MAX_ROWS)]
    return entry.number(-_ANY, _ANY)


def _category(entry: Json) -> Literal["hand"] | int:
    if entry.value == "hand":
        return "hand"
    if not isinstance(entry.value, int) or isinstance(entry.value, bool):
        entry.fail('"hand" or the number of an object')
    return entry.integer(0, MAX_ID)
