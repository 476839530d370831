"""Makes quantised activations symmetric: TensorRT knows int8 with a zero point of 0 and nothing else.

A pack's activations are uint8 with a scale s and a zero point z, so they reach from -z s to (255 - z) s. In
int8 around zero the larger of the two ends decides the scale: an activation that lies on one side of zero has
then half the levels that it has on a CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import BackendError

if TYPE_CHECKING:
    from onnx import ModelProto

LEVELS, LARGEST = 255, 127  # of uint8, of int8 without -128


def make_symmetric(model: ModelProto, constants: dict[str, NDArray[Any]]) -> None:
    """Rewrites the scales and zero points of QuantizeLinear and DequantizeLinear nodes.

    Raises BackendError for int8 with a zero point, or parameters that are not constants.
    """
    done: dict[tuple[str, str], tuple[str, str]] = {}
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        names = node.input[1], node.input[2] if len(node.input) > 2 else ""
        if names[0] not in constants or (names[1] and names[1] not in constants):
            raise BackendError(f"the node {node.name} takes its scale from the graph; a constant is needed")
        zero = constants.get(names[1])
        if zero is None and node.op_type == "QuantizeLinear":
            raise BackendError(f"the node {node.name} has no zero point, whose type says what it makes")
        if zero is None or zero.dtype != np.uint8:
            if zero is not None and np.any(np.asarray(zero) != 0):
                raise BackendError(f"the node {node.name} has a zero point; TensorRT needs 0 for int8")
            continue
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            raise BackendError(f"the node {node.name} holds a weight as uint8; TensorRT needs int8")
        if names not in done:
            done[names] = f"{names[0]}.symmetric", f"{names[1]}.symmetric"
            offset = np.asarray(zero).astype(np.float32)
            reach = np.maximum(offset, LEVELS - offset)
            constants[done[names][0]] = (constants[names[0]] * reach / LARGEST).astype(np.float32)
            constants[done[names][1]] = np.zeros(offset.shape, np.int8)
        node.input[1], node.input[2] = done[names]
