"""Files in the published layouts of MeshGraphormer's inputs, with made-up contents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.sparse
import torch
from mano_tools import mano_constants, mano_pickle
from torch import Tensor

COARSE, VERTICES = 195, 778


def write_mano(folder: Path, seed: int = 0) -> Path:
    path = folder / "MANO_RIGHT.pkl"
    path.write_bytes(mano_pickle(mano_constants(seed)))
    return path


def coarse_graph(seed: int = 0) -> np.ndarray:
    """A symmetric matrix (195, 195) of 0, 1 and 2 with an empty diagonal, as the published A[1] is."""
    rng = np.random.default_rng(seed)
    upper = np.triu((rng.random((COARSE, COARSE)) < 0.03) * rng.integers(1, 3, (COARSE, COARSE)), 1)
    return (upper + upper.T).astype(np.float64)


def picks(seed: int = 0) -> np.ndarray:
    """D[0] (195, 778): every coarse vertex is a vertex of the whole mesh."""
    chosen = np.sort(np.random.default_rng(seed).choice(VERTICES, COARSE, replace=False))
    matrix = np.zeros((COARSE, VERTICES))
    matrix[np.arange(COARSE), chosen] = 1
    return matrix


def row_normalised(graph: np.ndarray) -> np.ndarray:
    near = (graph + np.eye(len(graph)) > 0).astype(np.float64)
    return near / near.sum(axis=1, keepdims=True)


def _row(*matrices: np.ndarray) -> np.ndarray:
    row = np.empty(len(matrices), object)
    for k, matrix in enumerate(matrices):
        row[k] = scipy.sparse.csc_matrix(matrix)
    return row


def write_data(folder: Path, seed: int = 0, *, adjacency: bool = True) -> Path:
    """src/modeling/data: the sampling file and, if wanted, the adjacency as three old files of torch.save."""
    folder.mkdir(exist_ok=True)
    graph = coarse_graph(seed)
    # A graph of the 778 vertices comes first, as in the published file.
    np.savez(folder / "mano_downsampling.npz", A=_row(np.eye(VERTICES), graph), D=_row(picks(seed)))
    if adjacency:
        matrix = scipy.sparse.coo_matrix(row_normalised(graph))
        parts = {
            "indices": torch.from_numpy(np.stack([matrix.row, matrix.col]).astype(np.int64)),
            "values": torch.from_numpy(matrix.data.astype(np.float32)),
            "size": torch.Size((COARSE, COARSE)),
        }
        for name, value in parts.items():
            path = folder / f"mano_195_adjmat_{name}.pt"
            torch.save(value, path, _use_new_zipfile_serialization=False)
    return folder


def hand_tensors(seed: int = 0) -> tuple[Tensor, Tensor]:
    """A template (216, 3) and an adjacency (195, 195) for networks that need no files."""
    template = torch.from_numpy(np.random.default_rng(seed).normal(0, 0.05, (216, 3)).astype(np.float32))
    return template, torch.from_numpy(row_normalised(coarse_graph(seed)).astype(np.float32))
