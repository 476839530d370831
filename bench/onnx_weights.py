"""Fills torch modules with the weights of the ONNX files that they were exported to.

So a pack is enough to run its networks in torch. Matrices lose their names in the export and equal vectors
are stored once, but every node keeps the path of the module that it came from; so weights are found by node.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

Array = NDArray[np.float32]


class OnnxWeights:
    """The constants of ONNX files by the module and operator that use them."""

    def __init__(self, *paths: Path) -> None:
        self._named: dict[str, Array] = {}
        self._found: defaultdict[tuple[str, str], list[list[Array]]] = defaultdict(list)
        for path in paths:
            graph = onnx.load(str(path)).graph
            constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
            for node in graph.node:  # weights stored as halves
                if node.op_type == "Cast" and node.input[0] in constants:
                    constants[node.output[0]] = constants[node.input[0]].astype(np.float32)
            self._named |= constants
            for node in graph.node:
                used = [constants[name] for name in node.input if name in constants]
                self._found[_scope(node.name), node.op_type].append(used)

    def named(self, name: str) -> Array:
        """The initialiser of that name."""
        return self._named[name]

    def of(self, scope: str, operator: str) -> list[Array]:
        """The constant inputs of the one node of that operator in a module; [] if there is no such node."""
        found = self._found[scope, operator]
        if len(found) > 1:
            raise ValueError(f"{scope} has {len(found)} nodes {operator}, expected one")
        return found[0] if found else []


def _scope(node: str) -> str:
    """The module that a node came from: "/models/unet/blocks/blocks.0/conv/Conv" is unet.blocks.0.conv."""
    parts = node.strip("/").removeprefix("models/").split("/")
    return ".".join(a for a, b in pairwise(parts) if not b.startswith(f"{a}."))


def fill(module: nn.Module, weights: OnnxWeights, scope: str, skip: str = "") -> None:
    """Sets every parameter of `module`, which the graph knows as `scope`, but for its child `skip`.

    Raises ValueError for a parameter that is not in the graph or of another shape there.
    """
    for name, layer in module.named_modules():
        own = dict(layer.named_parameters(recurse=False))
        if not own or (skip and name.startswith(skip)):
            continue
        path = ".".join(part for part in (scope, name) if part)
        found = _parameters(layer, weights, path)
        for key, parameter in own.items():
            if key not in found or found[key].shape != tuple(parameter.shape):
                has = found[key].shape if key in found else "nothing"
                raise ValueError(f"{path}.{key}: expected {tuple(parameter.shape)}, the graph has {has}")
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(found[key]))


def _parameters(layer: nn.Module, weights: OnnxWeights, path: str) -> dict[str, Array]:
    """The parameters of a single layer by name."""
    if isinstance(layer, nn.Conv2d):
        found = weights.of(path, "Conv")
    elif isinstance(layer, nn.LayerNorm):
        found = weights.of(path, "LayerNormalization")
    elif isinstance(layer, nn.GroupNorm):
        found = [values.reshape(-1) for operator in ("Mul", "Add") for values in weights.of(path, operator)]
    elif isinstance(layer, nn.Linear):
        # With a bias on matrices: Gemm, transposed as in torch; on stacks of matrices: MatMul and Add.
        found = weights.of(path, "Gemm") or [
            *(matrix.T for matrix in weights.of(path, "MatMul")),
            *weights.of(path, "Add"),
        ]
    elif isinstance(layer, nn.Embedding):
        found = [weights.named(f"{path}.weight")]
    else:
        raise ValueError(
            f"{path}: it is not known where an exported {type(layer).__name__} keeps its weights"
        )
    return {key: np.array(values) for key, values in zip(("weight", "bias"), found, strict=False)}
