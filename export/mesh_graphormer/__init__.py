"""MeshGraphormer for hands (Lin, Wang, Liu, ICCV 2021) from its published weights, as a pack's `mesh`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from ..hollow import hollow as with_placeholders
from ..hollow import without_memory
from .constants import HandConstants, read_constants
from .network import MeshGraphormer, Size
from .weights import find_weights, load_weights

__all__ = ["MeshGraphormer", "Size", "build_mesh_network", "empty_network"]

AnyPath = str | os.PathLike[str]


def build_mesh_network(
    state_dict_path: AnyPath, mano_path: AnyPath, graphormer_data_folder: AnyPath, *, hollow: bool = False
) -> tuple[MeshGraphormer, dict[str, NDArray[Any]]]:
    """The mesh network with the published weights, and the constants of its hand.

    Args:
        state_dict_path: graphormer_hand_state_dict.bin, or the same tensors as .safetensors.
        mano_path: MANO_RIGHT.pkl, or what `hoirt.load_mano` takes for it.
        graphormer_data_folder: src/modeling/data of the MeshGraphormer repository: mano_downsampling.npz
            and mano_195_adjmat_{indices,values,size}.pt.
        hollow: leave the weights in the file until `export_network_streaming` writes them one by one; such a
            module computes with placeholders. Otherwise they take 0.7 GB.

    Returns:
        The module, image (N, 3, 224, 224) RGB 0..1 -> (vertices (N, 778, 3), camera (N, 3)), and `faces`
        (1538, 3) int32 and `joint_regressor` (21, 778) float32 for the pack's constants.

    Raises:
        InputError: a file is missing, damaged, hostile or another one than it should be; keys of the weights
            that are missing or unexpected are listed.
    """
    hand = read_constants(Path(mano_path), Path(graphormer_data_folder))
    module = empty_network(hand)
    weights = find_weights(Path(state_dict_path), module)
    if hollow:
        with_placeholders(module, weights)
    else:
        load_weights(module, weights)
    return module, {"faces": hand.faces, "joint_regressor": hand.joint_regressor}


def empty_network(hand: HandConstants, size: Size | None = None) -> MeshGraphormer:
    """The network in eval mode, its parameters on the meta device until they get values by their names."""
    template, adjacency = torch.from_numpy(hand.template), torch.from_numpy(hand.adjacency)
    with without_memory():
        return MeshGraphormer(template, adjacency, size).eval()
