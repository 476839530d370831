"""An ONNX graph as plain nodes and lazily read weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import torch
from hoirt.errors import PackError
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

DTYPES: Mapping[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.INT64: torch.int64,
    TensorProto.INT32: torch.int32,
    TensorProto.INT8: torch.int8,
    TensorProto.UINT8: torch.uint8,
    TensorProto.BOOL: torch.bool,
}


@dataclass(frozen=True)
class Port:
    """An input or output. `shape`: numbers, names of free extents; `inner`: one part gives it to another."""

    name: str
    shape: tuple[int | str, ...]
    dtype: torch.dtype
    inner: bool = False


@dataclass(frozen=True)
class Node:
    """One operation; "" stands for an input that is left out. `attributes` hold numbers, lists and text."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Weight:
    """A constant of the graph that is read when it is asked for."""

    proto: TensorProto
    folder: Path

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.proto.dims)

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.proto.data_type]

    def read(self) -> Tensor:
        """Its values, in memory of their own. Raises PackError if they are not there."""
        if self.proto.data_location == TensorProto.EXTERNAL:
            array = self._mapped()
        else:
            array = numpy_helper.to_array(self.proto)
        if array.dtype == ml_dtypes.bfloat16:
            return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16).reshape(self.shape)
        return torch.from_numpy(np.array(array)).reshape(self.shape)

    def _mapped(self) -> np.ndarray[Any, Any]:
        told = {entry.key: entry.value for entry in self.proto.external_data}
        dtype = helper.tensor_dtype_to_np_dtype(self.proto.data_type)
        try:
            return np.memmap(
                self.folder / told["location"],
                dtype=dtype,
                mode="r",
                offset=int(told.get("offset", 0)),
                shape=self.shape or (1,),
            )
        except (OSError, ValueError) as error:
            raise PackError(
                f"{told.get('location')}: the weight {self.proto.name} is not there: {error}"
            ) from error


@dataclass
class Graph:
    """Nodes in an order in which they can run."""

    inputs: list[Port]
    outputs: list[Port]
    nodes: list[Node]
    weights: dict[str, Weight]

    def producers(self) -> dict[str, Node]:
        """The node that makes each value."""
        return {name: node for node in self.nodes for name in node.outputs}

    def consumers(self) -> dict[str, list[Node]]:
        """The nodes that read each value; an output of the graph counts as one more, an empty node."""
        readers: dict[str, list[Node]] = {}
        for node in (*self.nodes, *(Node("", (port.name,), ()) for port in self.outputs)):
            for name in set(node.inputs):
                readers.setdefault(name, []).append(node)
        return readers

    def needed(self, names: Iterable[str]) -> list[Node]:
        """The nodes that the values `names` depend on, in order."""
        wanted = set(names)
        kept = []
        for node in reversed(self.nodes):
            if not wanted.isdisjoint(node.outputs):
                kept.append(node)
                wanted.update(node.inputs)
        return kept[::-1]

    def part(self, inputs: list[Port], outputs: list[Port]) -> Graph:
        """The graph that makes `outputs` of `inputs`, which need not be inputs of this one."""
        given = {port.name for port in inputs}
        cut = Graph(inputs, outputs, [n for n in self.nodes if given.isdisjoint(n.outputs)], self.weights)
        nodes = cut.needed(port.name for port in outputs)
        read = {name for node in nodes for name in node.inputs} | {port.name for port in outputs}
        return Graph(inputs, outputs, nodes, {n: w for n, w in self.weights.items() if n in read})


def read_graph(path: Path) -> Graph:
    """The graph of an ONNX file, its external weights not yet read. Raises PackError."""
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # of protobuf, whose exceptions depend on its implementation
        raise PackError(f"{path.name}: not an ONNX file: {error}") from error
    graph = model.graph
    foreign = {node.domain for node in graph.node if node.domain not in ("", "ai.onnx")}
    if foreign or model.functions:
        raise PackError(f"{path.name}: operators of other domains than ONNX's: {', '.join(sorted(foreign))}")
    weights = {tensor.name: Weight(tensor, path.parent) for tensor in graph.initializer}
    nodes = []
    for proto in graph.node:
        attributes = {item.name: _attribute(item, path) for item in proto.attribute}
        if proto.op_type == "Constant" and isinstance(attributes.get("value"), TensorProto):
            weights[proto.output[0]] = Weight(attributes["value"], path.parent)
            continue
        nodes.append(Node(proto.op_type, tuple(proto.input), tuple(proto.output), attributes))
    inputs = [_port(value) for value in graph.input if value.name not in weights]
    return Graph(inputs, [_port(value) for value in graph.output], nodes, weights)


def _attribute(attribute: onnx.AttributeProto, path: Path) -> Any:
    if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
        raise PackError(f"{path.name}: graphs inside of operators cannot be compiled")
    value = helper.get_attribute_value(attribute)
    return value.decode() if isinstance(value, bytes) else value


def _port(value: onnx.ValueInfoProto) -> Port:
    kind = value.type.tensor_type
    shape = tuple(dim.dim_param or int(dim.dim_value) for dim in kind.shape.dim)
    return Port(value.name, shape, DTYPES[kind.elem_type])
