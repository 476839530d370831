"""Which layers of an ONNX graph can be quantised: convolutions and products with a constant matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

OPERATORS = ("Conv", "MatMul", "Gemm")
SMALLEST_SIDE = 16  # channels; the first and last convolution have fewer, cost nothing and bear the least
ReadWeight = Callable[[], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution or linear layer.

    Attributes:
        node: Conv, MatMul or Gemm; its inputs are the activation, the weight and maybe a bias.
        weight: the initialiser, in its stored dtype. axis: of the weight's output channels.
        channel: axis of the activation's channels.
    """

    node: ir.Node
    weight: ir.Value
    axis: int
    channel: int

    @property
    def name(self) -> str:
        """As the node's: the path of the module that it came from, "/unet/mid_block/.../to_q/MatMul"."""
        return str(self.node.name)

    @property
    def activation(self) -> ir.Value:
        value = self.node.inputs[0]
        assert value is not None
        return value

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight."""
        assert self.weight.const_value is not None
        return tuple(self.weight.const_value.shape.numpy())

    @property
    def wide(self) -> bool:
        """Worth quantising: it has SMALLEST_SIDE channels or more on either side."""
        return min(self.shape[:2]) >= SMALLEST_SIDE

    def read(self) -> NDArray[np.float32]:
        """The weight in float32."""
        assert self.weight.const_value is not None
        return np.asarray(self.weight.const_value.numpy()).astype(np.float32)


def find_layers(model: ir.Model) -> list[Layer]:
    """The layers in the order of the graph. A weight may be cast to float32 in the graph."""
    layers = []
    for node in model.graph:
        if node.domain or node.op_type not in OPERATORS or node.inputs[0] is None:
            continue
        weight = _stored(node.inputs[1])
        if weight is None or _stored(node.inputs[0]) is not None:
            continue
        transposed = node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1
        axis = 0 if node.op_type == "Conv" or transposed else 1
        layers.append(Layer(node, weight, axis, 1 if node.op_type == "Conv" else -1))
    return layers


def _stored(value: ir.Value | None) -> ir.Value | None:
    """The initialiser behind a value, through a Cast; None if there is none."""
    if value is None:
        return None
    producer = value.producer()
    if producer is not None and producer.op_type == "Cast":
        value = producer.inputs[0]
    if value is None or not value.is_initializer() or value.const_value is None:
        return None
    return value
