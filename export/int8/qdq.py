"""Rewrites layers of an ONNX graph to int8: quantise the activation, dequantise the weight.

An activation gets one scale and zero point and becomes uint8; a weight gets a scale for each output channel
and becomes int8 in -127 .. 127. Runtimes run a layer between the two in integers. Weights are read twice and
one at a time: for their scales now, and for their values when they are written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir
from hoirt.errors import PackError
from numpy.typing import NDArray

from .layers import Layer, ReadWeight
from .ranges import Range

LEVELS = 255  # steps between the ends of uint8
LARGEST = 127  # of a weight; -128 is left out, so that zero needs no offset


def rewrite(model: ir.Model, layers: Sequence[Layer], ranges: Mapping[str, Range]) -> None:
    """Quantises `layers`; `ranges` holds their activations by name. What nothing uses any more is removed."""
    activations: dict[ir.Value, ir.Value] = {}
    weights: dict[ir.Value, ir.Value] = {}
    for layer in layers:
        value = layer.activation
        if value not in activations:
            nodes = _quantised(model.graph, value, ranges[str(value.name)])
            model.graph.insert_before(layer.node, nodes)
            activations[value] = nodes[-1].outputs[0]
        if layer.weight not in weights:
            node = _dequantised(model.graph, layer)
            model.graph.insert_before(layer.node, node)
            weights[layer.weight] = node.outputs[0]
        layer.node.replace_input_with(0, activations[value])
        layer.node.replace_input_with(1, weights[layer.weight])
    _drop_unused(model.graph)


def scale_and_zero(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """Of uint8 for values in low .. high; zero is always one of its values, as padding needs it."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32(max((high - low) / LEVELS, np.finfo(np.float32).tiny))
    return scale, np.uint8(np.clip(np.rint(-low / scale), 0, LEVELS))


def weight_scales(weight: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """(C,) for the channels of `axis`; 1 for a channel of zeros."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scales = np.asarray(np.abs(weight).max(axis=others) / np.float32(LARGEST), np.float32)
    return np.where(scales > np.finfo(np.float32).tiny, scales, np.float32(1))


def weight_values(weight: NDArray[np.float32], scales: NDArray[np.float32], axis: int) -> NDArray[np.int8]:
    """The weight in units of its scales."""
    shape = [1] * weight.ndim
    shape[axis] = -1
    return np.clip(np.rint(weight / scales.reshape(shape)), -LARGEST, LARGEST).astype(np.int8)


def _quantised(graph: ir.Graph, value: ir.Value, found: Range) -> list[ir.Node]:
    scale, zero = scale_and_zero(float(found.low.min()), float(found.high.max()))
    parameters = [
        _constant(graph, f"{value.name}.scale", np.asarray(scale)),
        _constant(graph, f"{value.name}.zero", np.asarray(zero)),
    ]
    to = ir.node("QuantizeLinear", [value, *parameters], name=f"{value.name}.quantize")
    back = ir.node("DequantizeLinear", [to.outputs[0], *parameters], name=f"{value.name}.dequantize")
    for node, ending in ((to, "uint8"), (back, "float")):
        node.outputs[0].name = f"{value.name}.{ending}"
    return [to, back]


def _dequantised(graph: ir.Graph, layer: Layer) -> ir.Node:
    weight = layer.read()
    if not np.isfinite(weight).all():
        raise PackError(f"the weight {layer.weight.name} holds NaN or infinity")
    scales = weight_scales(weight, layer.axis)
    name, shape = f"{layer.weight.name}.int8", ir.Shape(layer.shape)
    stored = ir.Value(name=name, shape=shape, type=ir.TensorType(ir.DataType.INT8))
    stored.const_value = ir.LazyTensor(
        _converting(layer.read, scales, layer.axis), ir.DataType.INT8, shape, name=name
    )
    graph.register_initializer(stored)
    parameters = [
        _constant(graph, f"{layer.weight.name}.scale", scales),
        _constant(graph, f"{layer.weight.name}.zero", np.zeros(scales.shape, np.int8)),
    ]
    node = ir.node(
        "DequantizeLinear",
        [stored, *parameters],
        {"axis": layer.axis},
        name=f"{layer.weight.name}.dequantize",
    )
    node.outputs[0].name = f"{layer.weight.name}.float"
    return node


def _converting(read: ReadWeight, scales: NDArray[np.float32], axis: int) -> Callable[[], ir.TensorProtocol]:
    return lambda: ir.tensor(weight_values(read(), scales, axis))


def _constant(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    value = ir.Value(
        name=name,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
        const_value=ir.tensor(array, name=name),
    )
    graph.register_initializer(value)
    return value


def _drop_unused(graph: ir.Graph) -> None:
    """The weights that were replaced, and their casts."""
    for node in list(graph):
        if node.op_type == "Cast" and not any(output.uses() for output in node.outputs):
            graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]
