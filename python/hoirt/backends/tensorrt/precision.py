"""Rewrites a pack's float32 graph so that a strongly typed network of another precision follows from it.

A strongly typed network has the types of its ONNX file and no others, so the precision is decided here,
before TensorRT parses it: weights and activations become float16 or bfloat16, ports stay float32, and what
loses too much in halves stays float32 between two casts.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hoirt.backends.tensorrt.graph_weights import Writer, read_tensor
from hoirt.backends.tensorrt.symmetric import make_symmetric
from hoirt.errors import BackendError, PackError

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

Precision = Literal["fp32", "fp16", "bf16"]
# Sums of squares and of exponentials: a half has 11 bits for them, bfloat16 has 8.
EXACT = {
    "InstanceNormalization",
    "GroupNormalization",
    "LayerNormalization",
    "RMSNormalization",
    "Softmax",
    "LogSoftmax",
    "ReduceSum",
    "ReduceMean",
    "ReduceSumSquare",
    "ReduceL2",
}
ALWAYS_FLOAT = {("Resize", 1), ("Resize", 2), ("Upsample", 1)}  # inputs that ONNX defines as float32
BFLOAT16_OPSET = 22  # the first one whose convolutions and norms take bfloat16
UNTYPED = {"If", "Loop", "Scan", "RandomNormal", "RandomUniform", "EyeLike"}  # types in places not looked at


def convert(source: Path, target: Path, precision: Precision) -> None:
    """Writes the graph of `source` in `precision` to `target` (.onnx), its weights beside it (.bin).

    Weights that are stored narrow lose their casts, so every weight keeps the name that the exporter gave it.
    Quantised layers become symmetric int8 (see symmetric.py).

    Raises BackendError for a graph that cannot be converted, PackError for one that cannot be read.
    """
    model = load_graph(source)
    constants = {tensor.name: read_tensor(tensor, source.parent) for tensor in model.graph.initializer}
    _fold_casts(model, constants)
    make_symmetric(model, constants)
    if precision != "fp32":
        _Conversion(model, constants, precision).run()
    del model.graph.initializer[:], model.graph.value_info[:]  # its types are of before
    with Writer(model.graph, target.with_suffix(".bin")) as writer:
        used = {name for node in model.graph.node for name in node.input}
        for name in sorted(constants.keys() & used):
            writer.add(name, constants[name])
    target.write_bytes(model.SerializeToString(deterministic=True))


def load_graph(path: Path) -> ModelProto:
    """An ONNX file without its weights. Raises PackError, or BackendError if the package onnx is missing."""
    try:
        import onnx
    except ImportError as error:
        raise BackendError(f"backend tensorrt: {error}; pip install 'hoirt[tensorrt]'") from error
    try:
        return onnx.load(str(path), load_external_data=False)
    except Exception as error:  # OSError, protobuf's DecodeError
        raise PackError(f"{path} cannot be read as an ONNX file: {error}") from error


def dtype_of(precision: Precision) -> np.dtype[Any]:
    """NumPy's type of a precision; bfloat16 is that of ml_dtypes."""
    if precision == "bf16":
        import ml_dtypes

        half: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return half
    return np.dtype(np.float32 if precision == "fp32" else np.float16)


def narrowed(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Values in `dtype`; finite ones that are too large for it become its largest, as masks of -3e38 do."""
    if dtype == np.float16:
        limit = float(np.finfo(np.float16).max)
        array = np.where(np.isfinite(array), np.clip(array, -limit, limit), array)
    return array.astype(dtype)


def _fold_casts(model: ModelProto, constants: dict[str, NDArray[Any]]) -> None:
    """Makes Cast(weight) to float32 the weight itself."""
    from onnx import TensorProto

    kept = []
    for node in model.graph.node:
        value = constants.get(node.input[0]) if node.op_type == "Cast" else None
        if value is not None and value.dtype.itemsize == 2 and node.attribute[0].i == TensorProto.FLOAT:
            constants[node.output[0]] = value
        else:
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    for name, value in constants.items():
        if value.dtype.itemsize == 2:  # of a name that is written in what precision is asked for
            constants[name] = value.astype(np.float32)


class _Conversion:
    """One graph on its way to another precision. `have`: the type that each float value now has."""

    def __init__(self, model: ModelProto, constants: dict[str, NDArray[Any]], precision: Precision) -> None:
        from onnx import TensorProto

        self.model, self.constants = model, constants
        self.dtype = dtype_of(precision)
        self.float: int = TensorProto.FLOAT
        self.narrow: int = TensorProto.FLOAT16 if precision == "fp16" else TensorProto.BFLOAT16
        self.floats = self._find_floats()
        self.have = {port.name: self.float for port in model.graph.input}
        self.casts: dict[tuple[str, int], str] = {}
        self.nodes: list[NodeProto] = []
        opset = next(entry for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        if precision == "bf16" and opset.version < BFLOAT16_OPSET:
            if any(node.op_type == "GroupNormalization" for node in model.graph.node) and opset.version < 21:
                raise BackendError(
                    "a GroupNormalization before opset 21 means something else than later ones"
                )
            opset.version = BFLOAT16_OPSET  # from 20 on, the operators only gained types
            model.ir_version = max(model.ir_version, 10)
        self.opset: int = opset.version
        self.word = "tensor(float16)" if precision == "fp16" else "tensor(bfloat16)"

    def run(self) -> None:
        attention = self._attention_softmaxes()
        nodes = list(self.model.graph.node)
        for node in nodes:
            if node.op_type in UNTYPED or node.domain not in ("", "ai.onnx"):
                raise BackendError(f"the node {node.name} ({node.op_type}) cannot be converted from float32")
        self._narrow_constants(nodes, attention)
        for node in nodes:
            self._convert(node, exact=self._is_exact(node, attention))
        for port in self.model.graph.output:
            if port.name in self.floats and self.have[port.name] != self.float:
                self._widen_output(port.name)
        del self.model.graph.node[:]
        self.model.graph.node.extend(self.nodes)

    def _is_exact(self, node: NodeProto, attention: set[str]) -> bool:
        """Whether a node stays float32: for precision, or since ONNX defines it for no narrower type."""
        from onnx import defs

        if node.op_type in EXACT and node.name not in attention:
            return True
        schema = defs.get_schema(node.op_type, self.opset, "")
        floats = [port.types for port in schema.inputs if "tensor(float)" in port.types]
        return bool(floats) and not any(self.word in types for types in floats)

    def _find_floats(self) -> set[str]:
        """The names of all float32 values, by ONNX' own type inference."""
        from onnx import helper, shape_inference

        model = type(self.model)()
        model.CopyFrom(self.model)
        del model.graph.initializer[:]
        for name, value in self.constants.items():
            port = helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
            )
            model.graph.input.append(port)  # as ports, so that no values are needed
        inferred = shape_inference.infer_shapes(model).graph
        types = {
            value.name: value.type.tensor_type.elem_type
            for value in (*inferred.input, *inferred.value_info, *inferred.output)
        }
        unknown = [name for node in inferred.node for name in node.output if name and not types.get(name)]
        if unknown:
            raise BackendError(f"the types of {len(unknown)} values do not follow, {unknown[0]} is one")
        return {name for name, kind in types.items() if kind == self.float}

    def _attention_softmaxes(self) -> set[str]:
        """Names of the softmaxes between two matrix products. These stay narrow: a fused attention keeps its
        sums in float32 by itself, and a cast could keep it from being fused.
        """
        maker = {name: node for node in self.model.graph.node for name in node.output}
        users: dict[str, list[NodeProto]] = {}
        for node in self.model.graph.node:
            for name in node.input:
                users.setdefault(name, []).append(node)
        found = set()
        for node in self.model.graph.node:
            if node.op_type != "Softmax":
                continue
            before = maker.get(node.input[0])
            if before is not None and before.op_type == "Add":  # a mask
                before = next((maker[name] for name in before.input if name in maker), None)
            after = {user.op_type for user in users.get(node.output[0], [])}
            if before is not None and before.op_type == "MatMul" and after == {"MatMul"}:
                found.add(node.name)
        return found

    def _narrow_constants(self, nodes: Iterable[NodeProto], attention: set[str]) -> None:
        """A constant becomes narrow unless all that use it want float32."""
        narrow = {
            name
            for node in nodes
            for i, name in enumerate(node.input)
            if not self._is_exact(node, attention) and (node.op_type, i) not in ALWAYS_FLOAT
        }
        for name, value in self.constants.items():
            if value.dtype == np.float32:
                wide = name not in narrow
                self.have[name] = self.float if wide else self.narrow
                self.constants[name] = value if wide else narrowed(value, self.dtype)

    def _convert(self, node: NodeProto, *, exact: bool) -> None:
        wanted = self.float if exact else self.narrow
        for i, name in enumerate(node.input):
            if name in self.floats:
                kind = self.float if (node.op_type, i) in ALWAYS_FLOAT else wanted
                if node.op_type != "Cast":
                    node.input[i] = self._as(name, kind)
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == self.float:
                attribute.i = wanted
            elif attribute.name in ("value", "value_float") and node.op_type.startswith("Constant"):
                self._convert_constant(node, attribute)
        self.nodes.append(node)
        self.have.update({name: wanted for name in node.output if name in self.floats})

    def _convert_constant(self, node: NodeProto, attribute: Any) -> None:
        from onnx import numpy_helper

        if attribute.name == "value_float":
            raise BackendError(f"the node {node.name} keeps its value in an attribute that is not converted")
        value = numpy_helper.to_array(attribute.t)
        if value.dtype == np.float32:
            attribute.t.CopyFrom(numpy_helper.from_array(narrowed(value, self.dtype), attribute.t.name))

    def _as(self, name: str, kind: int) -> str:
        """The value in this type; one cast serves all that want it."""
        if self.have[name] == kind:
            return name
        if (name, kind) not in self.casts:
            from onnx import helper

            made = f"{name}.{'wide' if kind == self.float else 'narrow'}"
            self.nodes.append(helper.make_node("Cast", [name], [made], name=f"{made}.cast", to=kind))
            self.casts[name, kind] = made
        return self.casts[name, kind]

    def _widen_output(self, name: str) -> None:
        """Gives an output of the graph its float32 back under its own name."""
        from onnx import helper

        inner = f"{name}.inner"
        for node in self.nodes:
            node.input[:] = [inner if value == name else value for value in node.input]
            node.output[:] = [inner if value == name else value for value in node.output]
        self.nodes.append(helper.make_node("Cast", [inner], [name], name=f"{name}.cast", to=self.float))
