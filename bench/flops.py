"""Counts the floating-point operations of an ONNX network: its convolutions and matrix products.

A multiplication and an addition are two operations, as in torch.utils.flop_counter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path

import onnx

Shapes = Mapping[str, tuple[int, ...]]


def count(path: Path, shapes: Shapes) -> int:
    """The operations of one run of the network on inputs of these shapes (by name, all of them static).

    Raises ValueError when the shape of an operand is not known from the inputs' shapes alone.
    """
    graph, known = _infer(path, shapes)
    return sum(_operations(node, known) for node in graph.node)


def output_shapes(path: Path, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """The outputs' shapes for inputs of these shapes. Raises ValueError if one is not known."""
    graph, known = _infer(path, shapes)
    return {value.name: _known(value.name, "the output", known) for value in graph.output}


def _infer(path: Path, shapes: Shapes) -> tuple[onnx.GraphProto, dict[str, tuple[int, ...]]]:
    """The graph, and the shapes of all its values that follow from those of the inputs."""
    model = onnx.load(str(path), load_external_data=False)
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name not in shapes or len(shapes[value.name]) != len(dims):
            raise ValueError(f"the input {value.name} needs a shape of {len(dims)} extents")
        for dim, extent in zip(dims, shapes[value.name], strict=True):
            dim.dim_value = extent  # replaces a name
    for value in model.graph.output:  # inferred anew
        value.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    known = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            known[value.name] = tuple(dim.dim_value for dim in dims)
    return graph, known


def _operations(node: onnx.NodeProto, known: Shapes) -> int:
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return 0
    place = f"{node.op_type} {node.name}"
    first, second, out = (_known(name, place, known) for name in (*node.input[:2], node.output[0]))
    if node.op_type == "Conv":
        return 2 * prod(out) * prod(second[1:])
    if node.op_type == "ConvTranspose":
        return 2 * prod(first) * prod(second[1:])
    transposed = node.op_type == "Gemm" and _attribute(node, "transA")
    return 2 * prod(out) * first[0 if transposed else -1]


def _known(name: str, place: str, known: Shapes) -> tuple[int, ...]:
    if name not in known:
        raise ValueError(f"{place}: the shape of {name} does not follow from the inputs")
    return known[name]


def _attribute(node: onnx.NodeProto, name: str) -> int:
    return next((a.i for a in node.attribute if a.name == name), 0)


def of_run(full: int, reuse: int, guided: Sequence[bool], reused: Sequence[bool]) -> int:
    """The operations of all rows of a step table: `full` and `reuse` are those of one item in one step, and
    rows that are guided run two items.
    """
    return sum(
        (reuse if again else full) * (2 if both else 1) for both, again in zip(guided, reused, strict=True)
    )
