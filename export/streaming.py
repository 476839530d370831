"""One torch module to one ONNX file without its weights in memory: each is read when it is written.

The module is traced with its weights as inputs of the graph, so that they keep their names and nothing looks
at their values. What the graph does to weights alone (a transposed matrix, a norm's scale with more axes) is
not left to the runtime: it is recorded, and applied to each weight at the moment it is written.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from .hollow import Read, reader_of
from .memory import return_large_blocks
from .onnx_export import OPSET, Axes, finish, names_of_outputs, set_shapes
from .optimise import optimise
from .weights_file import Progress, Storage

Array = np.ndarray


@dataclass(frozen=True)
class _Weight:
    """A weight, or what follows from weights and constants alone; `read` computes it anew each time."""

    name: str
    shape: tuple[int, ...]
    dtype: ir.DataType
    read: Callable[[], Array]

    def tensor(self) -> ir.LazyTensor:
        return ir.LazyTensor(
            lambda: ir.tensor(np.asarray(self.read(), order="C")),
            self.dtype,
            ir.Shape(self.shape),
            name=self.name,
        )


def export_network_streaming(
    module: nn.Module,
    example_inputs: Mapping[str, Tensor],
    dynamic_axes: Axes,
    path: Path,
    storage: Storage = "fp32",
    progress: Progress | None = None,
) -> dict[str, str]:
    """Writes `path` (an .onnx file) and its weights beside it (same stem, .bin); returns sha256 by name.

    Arguments as for `export_network`; parameters may be placeholders of `hollow`. At most a few weights are
    in memory at once. progress: called with the bytes of each weight that was written.
    Raises ValueError when a weight is not finite or does not fit the storage.
    """
    return_large_blocks()
    module = module.eval()
    outputs = names_of_outputs(example_inputs, dynamic_axes)
    with torch.no_grad():
        results = module(*example_inputs.values())
        results = results if isinstance(results, tuple) else (results,)
        model = _trace(module, example_inputs, dynamic_axes, outputs)
    weights = _take_weights(model, module, list(example_inputs))
    set_shapes(model, example_inputs, dict(zip(outputs, results, strict=True)), dynamic_axes)
    _fold(model, weights)
    for value, weight in weights.items():
        if value.uses():
            value.const_value = weight.tensor()
            model.graph.register_initializer(value)
    for name, value in list(model.graph.initializers.items()):
        if not value.uses():
            del model.graph.initializers[name]
    return finish(model, path, storage, progress)


def _trace(module: nn.Module, inputs: Mapping[str, Tensor], axes: Axes, outputs: list[str]) -> ir.Model:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracer warnings: frozen branches are checked by running other sizes
        raw = Path(folder) / "raw.onnx"
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            str(raw),
            dynamo=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_axes={name: dict(a) for name, a in axes.items()},
            export_params=False,
            keep_initializers_as_inputs=True,
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,  # EVAL would fuse norms into weights it has not got
        )
        model = ir.load(raw)
    optimise(model)
    return model


def _take_weights(model: ir.Model, module: nn.Module, ports: list[str]) -> dict[ir.Value, _Weight]:
    """Removes the weights from the inputs of the graph, and says what they are."""
    named = {**dict(module.named_buffers(remove_duplicate=False))}
    named |= dict(module.named_parameters(remove_duplicate=False))
    weights = {}
    for value in list(model.graph.inputs):
        name = str(value.name)
        if name in ports:
            continue
        if name not in named:
            raise ValueError(f"the graph wants {name}, which is no weight of the module")
        shape = tuple(named[name].shape)
        weights[value] = _Weight(
            name, shape, ir.DataType.FLOAT, _checked(name, shape, reader_of(named[name]))
        )
        model.graph.inputs.remove(value)
    return weights


def _checked(name: str, shape: tuple[int, ...], read: Read) -> Callable[[], Array]:
    def read_float32() -> Array:
        tensor = read()
        if tuple(tensor.shape) != shape:
            raise ValueError(f"the weight {name} has the shape {tuple(tensor.shape)}, expected {shape}")
        array: Array = tensor.detach().to("cpu", torch.float32).numpy()
        if not np.isfinite(array).all():
            raise ValueError(f"the weight {name} holds NaN or infinity")
        return array

    return read_float32


def _fold(model: ir.Model, weights: dict[ir.Value, _Weight]) -> None:
    """Takes the nodes out of the graph that only work on weights, and adds their results to `weights`."""
    for node in list(model.graph):
        operands = [value for value in node.inputs if value is not None]
        if node.domain or len(node.outputs) != 1 or not any(value in weights for value in operands):
            continue
        constants = {
            value: ir.convenience.get_const_tensor(value) for value in operands if value not in weights
        }
        result = node.outputs[0]
        static = result.shape is not None and result.shape.is_static() and result.dtype is not None
        if any(tensor is None for tensor in constants.values()) or not static or result.is_graph_output():
            continue
        shape = tuple(result.shape.numpy())
        sources = [weights[value] for value in operands if value in weights]
        if prod(shape) > max(prod(source.shape) for source in sources):
            continue  # a repeated weight is better repeated by the runtime
        name = sources[0].name if len(sources) == 1 and _only_use(operands, weights) else str(result.name)
        known = {str(value.name): tensor.numpy() for value, tensor in constants.items() if tensor is not None}
        inputs = {str(value.name): weights[value] for value in operands if value in weights}
        weight = _Weight(name, shape, result.dtype, _computed(node, known, inputs))
        folded = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(result.dtype))
        weights[folded] = weight
        result.replace_all_uses_with(folded)
        model.graph.remove(node, safe=True)


def _only_use(operands: list[ir.Value], weights: Mapping[ir.Value, _Weight]) -> bool:
    return all(len(value.uses()) == 1 for value in operands if value in weights)


def _computed(
    node: ir.Node, constants: Mapping[str, Array], inputs: Mapping[str, _Weight]
) -> Callable[[], Array]:
    """What the node makes of its inputs, by the reference implementation of the operator."""
    graph = onnx.helper.make_graph(
        [ir.to_proto(node)],
        "fold",
        [onnx.helper.make_empty_tensor_value_info(name) for name in (*constants, *inputs)],
        [onnx.helper.make_empty_tensor_value_info(str(node.outputs[0].name))],
    )
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)])

    def compute() -> Array:
        feed = {**constants, **{name: weight.read() for name, weight in inputs.items()}}
        result: Array = ReferenceEvaluator(proto).run(None, feed)[0]
        return result

    return compute
