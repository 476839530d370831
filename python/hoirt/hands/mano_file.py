"""The constants in a MANO file, as dense arrays: the published pickles, and hoirt's conversion of them.

MANO_RIGHT.pkl and MANO_LEFT.pkl are pickles of Python 2 with chumpy's arrays and a sparse matrix of SciPy;
both are read as data (hoirt.safe_pickle), so neither package is needed. MANO's licence allows no
redistribution: hoirt ships nothing of it.
"""

from __future__ import annotations

import hashlib
import os
import stat
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hoirt.atomic_file import appearing
from hoirt.backends.cache import folder
from hoirt.errors import InputError
from hoirt.safe_pickle import Inert, loads

Arrays = dict[str, NDArray[Any]]

VERTICES, FACES, JOINTS = 778, 1538, 16
PARENTS = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14)
MAX_BYTES = 64 * 2**20
_CONVERSION = "1"

# hoirt's name, the file's name, shape.
_PARTS: dict[str, tuple[str, tuple[int, ...]]] = {
    "template": ("v_template", (VERTICES, 3)),
    "shape_directions": ("shapedirs", (VERTICES, 3, 10)),
    "pose_directions": ("posedirs", (VERTICES, 3, 135)),
    "joint_regressor": ("J_regressor", (JOINTS, VERTICES)),
    "weights": ("weights", (VERTICES, JOINTS)),
    "pose_components": ("hands_components", (45, 45)),
    "pose_mean": ("hands_mean", (45,)),
    "faces": ("f", (FACES, 3)),
}


def read(path: Path, *, cache: bool = True) -> Arrays:
    """The arrays of a MANO file, float32 and int32, in metres, as published.

    template (778, 3), shape_directions (778, 3, 10), pose_directions (778, 3, 135), joint_regressor (16,
    778), weights (778, 16), pose_components (45, 45), pose_mean (45,), faces (1538, 3).

    Args:
        path: a .pkl or a .safetensors file.
        cache: keep the conversion of a .pkl in the user's cache folder, and read it from there.

    Raises:
        InputError: no such file, too large, hostile, damaged, or not MANO's.
    """
    data = read_bytes(path, MAX_BYTES)
    if path.suffix == ".safetensors":
        return _converted(data, str(path))
    where = _cache_path(data) if cache else None
    if where is not None and where.is_file():
        try:
            return _converted(read_bytes(where, MAX_BYTES), str(where))
        except InputError:
            pass  # damaged: it is made again
    arrays = _published(data, str(path))
    if where is not None:
        try:
            where.parent.mkdir(parents=True, exist_ok=True)
            write(arrays, where)
        except (OSError, InputError) as error:
            warnings.warn(f"the conversion of {path} is not cached: {error}", stacklevel=3)
    return arrays


def read_bytes(path: Path, limit: int) -> bytes:
    """A whole file of at most `limit` bytes. Raises InputError for folders, pipes and devices too."""
    try:
        # Non-blocking: opening a pipe would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path} is not a file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(min(status.st_size, limit) + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise InputError(f"{path}: more than {limit} bytes")
    return data


def write(arrays: Arrays, path: Path) -> None:
    """Writes arrays of `read` as safetensors; the file appears whole or not at all."""
    from safetensors.numpy import save

    content = save(
        {name: np.ascontiguousarray(array) for name, array in arrays.items()},
        {"format": "hoirt-mano", "version": _CONVERSION},
    )
    try:
        with appearing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}") from None


def _cache_path(data: bytes) -> Path | None:
    where = folder()
    name = f"{hashlib.sha256(data).hexdigest()}-{_CONVERSION}.safetensors"
    return None if where is None else where.parent / "mano" / name


def _converted(data: bytes, name: str) -> Arrays:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        found = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{name} is no safetensors file: {error}") from None
    if set(found) != set(_PARTS):
        raise InputError(f"{name}: holds {sorted(found)[:12]}, a converted MANO file holds {sorted(_PARTS)}")
    return {part: _checked(found[part], part, shape, name) for part, (_, shape) in _PARTS.items()}


def _published(data: bytes, name: str) -> Arrays:
    content = loads(data, name)
    if not isinstance(content, dict):
        raise InputError(f"{name}: a MANO file is a dictionary, not a {type(content).__name__}")
    arrays: Arrays = {}
    for part, (key, shape) in _PARTS.items():
        if key not in content:
            raise InputError(f"{name}: the key '{key}' is missing; is this a MANO file?")
        arrays[part] = _checked(dense(content[key], f"{name}: {key}"), key, shape, name)
    tree = dense(content.get("kintree_table"), f"{name}: kintree_table")
    if tree.shape != (2, JOINTS) or tree[0, 1:].tolist() != list(PARENTS[1:]):
        raise InputError(f"{name}: kintree_table does not hold the 16 joints of MANO")
    return arrays


def _checked(array: NDArray[Any], key: str, shape: tuple[int, ...], name: str) -> NDArray[Any]:
    if array.shape != shape:
        raise InputError(f"{name}: {key} has shape {array.shape}; MANO's is {shape}")
    if key in ("f", "faces"):
        if array.dtype.kind not in "iu" or (array < 0).any() or (array >= VERTICES).any():
            raise InputError(f"{name}: {key} must hold integers from 0 to {VERTICES - 1}")
        return np.ascontiguousarray(array, np.int32)
    if array.dtype.kind != "f":
        raise InputError(f"{name}: {key} must hold floating point numbers, not {array.dtype}")
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(values).all():
        raise InputError(f"{name}: {key} holds NaN or infinity")
    return values


def dense(value: Any, name: str) -> NDArray[Any]:
    """An array, a chumpy leaf or selection, or a sparse matrix of SciPy, as an array. Raises InputError."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return value
    if isinstance(value, Inert) and isinstance(value.state, dict):
        kind, state = value.kind.rsplit(".", 1)[-1], value.state
        if kind == "Ch" and "x" in state:
            return dense(state["x"], f"{name}.x")
        if kind == "Select" and {"a", "idxs", "preferred_shape"} <= set(state):
            return _selected(state, name)
        if kind.endswith(("_matrix", "_array")):
            return _sparse(kind[:3], state, name)
    described = value.kind if isinstance(value, Inert) else type(value).__name__
    raise InputError(f"{name} is a {described}, not an array, a chumpy array or a sparse matrix")


def _selected(state: dict[Any, Any], name: str) -> NDArray[Any]:
    """chumpy's Select: entries `idxs` of the flattened array `a`, in `preferred_shape`."""
    flat = dense(state["a"], f"{name}.a").ravel()
    chosen = dense(state["idxs"], f"{name}.idxs").ravel()
    if chosen.dtype.kind not in "iu" or not _inside(chosen, flat.size):
        raise InputError(f"{name}: its selection does not lie in an array of {flat.size}")
    shape = state["preferred_shape"]
    if not isinstance(shape, (tuple, list)) or not all(type(n) is int and n >= 0 for n in shape):
        raise InputError(f"{name}: the shape of its selection is not a tuple of integers")
    try:
        selected: NDArray[Any] = flat[chosen].reshape(tuple(shape))
        return selected
    except ValueError as error:
        raise InputError(f"{name}: {error}") from None


def _sparse(form: str, state: dict[Any, Any], name: str) -> NDArray[Any]:
    shape = state.get("_shape", state.get("shape"))
    if not isinstance(shape, (tuple, list)) or len(shape) != 2 or not all(type(n) is int for n in shape):
        raise InputError(f"{name}: a sparse matrix has no shape")
    rows, columns = shape
    if not (0 < rows <= 4096 and 0 < columns <= 4096):
        raise InputError(f"{name}: a sparse matrix of {rows} x {columns} is too large")
    data = dense(state.get("data"), f"{name}.data").ravel()
    if form == "coo":
        row, column = (dense(state.get(part), f"{name}.{part}").ravel() for part in ("row", "col"))
    else:
        minor = dense(state.get("indices"), f"{name}.indices").ravel()
        starts = dense(state.get("indptr"), f"{name}.indptr").ravel().astype(np.int64)
        count = columns if form == "csc" else rows
        if (
            len(starts) != count + 1
            or starts[0] != 0
            or starts[-1] != len(data)
            or (np.diff(starts) < 0).any()
        ):
            raise InputError(f"{name}: the sparse matrix is damaged")
        major = np.repeat(np.arange(count), np.diff(starts))
        row, column = (minor, major) if form == "csc" else (major, minor)
    if (
        len(row) != len(data)
        or len(column) != len(data)
        or not (_inside(row, rows) and _inside(column, columns))
    ):
        raise InputError(f"{name}: the sparse matrix is damaged")
    full = np.zeros((rows, columns), data.dtype)
    np.add.at(full, (row, column), data)
    return full


def _inside(indices: NDArray[Any], count: int) -> bool:
    return indices.dtype.kind in "iu" and bool(((indices >= 0) & (indices < count)).all())
