"""What MeshGraphormer needs of MANO besides weights: template, adjacency, faces and joint regressor.

All of it comes from files of the user: MANO's right hand and the folder `src/modeling/data` of the
MeshGraphormer repository. Nothing in them is run.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from hoirt import load_mano
from hoirt.errors import InputError
from hoirt.hands.mano_file import dense, read_bytes
from hoirt.safe_pickle import loads
from numpy.typing import NDArray

from .network import COARSE, VERTICES

SAMPLING_FILE = "mano_downsampling.npz"
ADJACENCY_FILES = tuple(f"mano_195_adjmat_{part}.pt" for part in ("indices", "values", "size"))

# The finger tips of HandRefiner's joint regressor. The template has manopth's, whose middle one is 444.
REGRESSOR_TIPS = (745, 317, 445, 556, 673)

_MAX_BYTES = 16 * 2**20
_ROW_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class HandConstants:
    """template (216, 3) float32 metres: 21 joints and 195 coarse vertices of the mean hand about its wrist;
    adjacency (195, 195) float32, rows sum to 1; faces (1538, 3) int32; joint_regressor (21, 778) float32.
    """

    template: NDArray[np.float32]
    adjacency: NDArray[np.float32]
    faces: NDArray[np.int32]
    joint_regressor: NDArray[np.float32]


def read_constants(mano: Path, data: Path) -> HandConstants:
    """Reads the constants of the hand.

    Args:
        mano: MANO_RIGHT.pkl, its conversion, or a folder with it.
        data: folder with mano_downsampling.npz and mano_195_adjmat_{indices,values,size}.pt; without the
            latter the adjacency is made of the graph in the former, which gives the same to 1e-8.

    Raises:
        InputError: a file is missing, damaged, hostile, or not what it should be.
    """
    if "LEFT" in mano.name.upper():
        raise InputError(f"{mano}: MeshGraphormer needs the right hand, MANO_RIGHT.pkl")
    # The published template is that of the mean pose: a pose of zeros with flat_hand_mean=False.
    mean = load_mano(mano, side="right", flat_hand_mean=False, tips="manopth")(np.zeros(48, np.float32))
    model = load_mano(mano, side="right", tips=REGRESSOR_TIPS)
    if not data.is_dir():
        raise InputError(f"{data} is not a folder; it should be MeshGraphormer's src/modeling/data")
    sampling = _sampling(data / SAMPLING_FILE)
    coarse = sampling["D"][0].astype(np.float64) @ mean.vertices[0]
    template = np.concatenate([mean.keypoints[0], coarse]) - mean.keypoints[0, 0]
    present = [name for name in ADJACENCY_FILES if (data / name).exists()]
    if present and len(present) < len(ADJACENCY_FILES):
        lacking = ", ".join(sorted(set(ADJACENCY_FILES) - set(present)))
        raise InputError(f"{data} holds {', '.join(present)} but not {lacking}")
    return HandConstants(
        template=template.astype(np.float32),
        adjacency=_stored_adjacency(data) if present else _made_adjacency(sampling["A"][1]),
        faces=model.faces,
        joint_regressor=model.keypoint_regressor,
    )


def _sampling(path: Path) -> dict[str, list[NDArray[Any]]]:
    """The matrices D[0] (195, 778), which picks the coarse vertices, and A[1] (195, 195) of the coarse graph.

    The file is NumPy's, with pickled arrays of SciPy's sparse matrices.
    """
    read_bytes(path, _MAX_BYTES)  # a file of a sensible size
    shapes = {"D": {0: (COARSE, VERTICES)}, "A": {1: (COARSE, COARSE)}}
    found: dict[str, list[NDArray[Any]]] = {}
    for part, wanted in shapes.items():
        content = _objects(path, part)
        found[part] = []
        for level in range(max(wanted) + 1):
            name = f"{path}: {part}[{level}]"
            if len(content) <= level:
                raise InputError(f"{name} is missing")
            matrix = dense(content[level], name)
            if level in wanted and (matrix.shape != wanted[level] or not np.isfinite(matrix).all()):
                raise InputError(
                    f"{name} must be finite numbers of shape {wanted[level]}, not {matrix.shape}"
                )
            found[part].append(matrix)
    return found


def _objects(path: Path, part: str) -> list[Any]:
    """An array of objects in an .npz file, by hoirt's own reader of pickles instead of NumPy's."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{part}.npy") as file:
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                raise InputError(f"{path}: {part}.npy has format {version}, not 1.0")
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            data = file.read(_MAX_BYTES + 1)
    except KeyError:
        raise InputError(f"{path} holds no {part}.npy; is this {SAMPLING_FILE}?") from None
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{path} cannot be read as an .npz file: {error}") from None
    if dtype != np.dtype(object) or len(shape) != 1 or len(data) > _MAX_BYTES:
        raise InputError(f"{path}: {part}.npy does not hold a row of matrices")
    content = loads(data, f"{path}: {part}.npy")
    if not isinstance(content, np.ndarray) or content.shape != shape:
        raise InputError(f"{path}: {part}.npy does not hold a row of matrices")
    return list(content)


def _stored_adjacency(data: Path) -> NDArray[np.float32]:
    indices, values, size = (_load(data / name) for name in ADJACENCY_FILES)
    place = data / ADJACENCY_FILES[0]
    if not isinstance(size, tuple | list) or list(size) != [COARSE, COARSE]:
        raise InputError(f"{data / ADJACENCY_FILES[2]} must hold the size ({COARSE}, {COARSE})")
    if (
        not isinstance(indices, torch.Tensor)
        or not isinstance(values, torch.Tensor)
        or indices.dtype != torch.int64
        or not values.is_floating_point()
        or indices.shape != (2, *values.shape)
        or values.ndim != 1
        or not values.numel()
        or not (int(indices.min()) >= 0 and int(indices.max()) < COARSE)
    ):
        raise InputError(f"{place}: indices must be int64 (2, E) below {COARSE} and values floats (E,)")
    matrix = np.zeros((COARSE, COARSE), np.float32)
    np.add.at(matrix, tuple(indices.numpy()), values.float().numpy())
    if not np.abs(matrix.sum(axis=1) - 1).max() <= _ROW_SUM_TOLERANCE:  # also where there are NaN
        raise InputError(f"{data / ADJACENCY_FILES[1]}: the rows of the adjacency do not sum to 1")
    return matrix


def _made_adjacency(graph: NDArray[Any]) -> NDArray[np.float32]:
    """Neighbours in `graph` (195, 195) and the vertex itself with equal weights that sum to 1."""
    near = (graph != 0) | np.eye(COARSE, dtype=bool)
    return (near / near.sum(axis=1, keepdims=True)).astype(np.float32)


def _load(path: Path) -> object:
    if not path.is_file():
        raise InputError(f"{path} is not a file")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError, TypeError) as error:
        first = str(error).strip().split("\n")[0][:300]
        raise InputError(f"{path} cannot be read as a tensor of torch.save: {first}") from None
