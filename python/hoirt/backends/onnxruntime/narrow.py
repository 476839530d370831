"""Rewrites a graph of float32 to compute in float16 or bfloat16, without touching its external weights.

Ports stay float32. A pack that is stored narrow casts its weights up; those casts now lead nowhere else and
ONNX Runtime drops them, so that the mapped halves are used as they lie in the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hoirt.errors import BackendError

# Inputs that the operator wants in float32 whatever it computes in: {operator: positions}.
WIDE = {"Resize": (1, 2)}


def narrow_file(path: Path, precision: str) -> bytes:
    """The narrowed model, whose external data still lies in the folder of `path`. Raises BackendError."""
    try:
        import onnx
    except ImportError as error:
        raise BackendError(
            f"{precision} with onnxruntime needs the package onnx, which is not installed: "
            "pip install 'hoirt[onnxruntime]'"
        ) from error
    model = onnx.load(str(path), load_external_data=False)
    narrow(model, precision)
    data: bytes = model.SerializeToString()
    return data


def narrow(model: Any, precision: str) -> None:
    """Rewrites an onnx.ModelProto in place; `precision` is "fp16" or "bf16"."""
    import onnx
    from onnx import TensorProto, helper

    kind = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}[precision]
    graph = model.graph
    del graph.value_info[:]
    if model.functions or any(
        attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
        for node in graph.node
        for attribute in node.attribute
    ):
        raise BackendError(f"a graph with bodies of its own cannot be narrowed to {precision}")
    wide = [
        value.name for value in (*graph.input, *graph.initializer) if _element(value) == TensorProto.FLOAT
    ]
    renamed = {name: f"{name}.{precision}" for name in wide}
    used: set[str] = set()
    for node in graph.node:
        _narrow_attributes(node, kind)
        for position, name in enumerate(node.input):
            if name in renamed and position not in WIDE.get(node.op_type, ()):
                node.input[position] = renamed[name]
                used.add(name)
    before = [
        helper.make_node("Cast", [name], [renamed[name]], name=renamed[name], to=kind)
        for name in wide
        if name in used
    ]
    after = []
    for value in graph.output:
        if _element(value) == TensorProto.FLOAT:
            inner = f"{value.name}.{precision}"
            _rename(graph, value.name, inner)
            after.append(helper.make_node("Cast", [inner], [value.name], name=inner, to=TensorProto.FLOAT))
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)


def _element(value: Any) -> int:
    """The element type of a ValueInfoProto or a TensorProto."""
    return int(value.data_type if hasattr(value, "data_type") else value.type.tensor_type.elem_type)


def _narrow_attributes(node: Any, kind: int) -> None:
    """Casts to float32 go to `kind`, and float32 constants in attributes become `kind`."""
    from onnx import TensorProto

    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = kind
        if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
            attribute.t.CopyFrom(_converted(attribute.t, kind))


def _converted(tensor: Any, kind: int) -> Any:
    from onnx import helper, numpy_helper

    values = numpy_helper.to_array(tensor)
    return numpy_helper.from_array(values.astype(helper.tensor_dtype_to_np_dtype(kind)), tensor.name)


def _rename(graph: Any, old: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                if name == old:
                    names[position] = new
