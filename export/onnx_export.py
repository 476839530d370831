"""One torch module to one ONNX file, its weights in a second file beside it; the same bytes every time.

Why the tracing exporter is the default: after optimisation its graph runs as fast as that of the dynamo
exporter in OpenVINO and ONNX Runtime (they fuse both to the same operators), it keeps our names of the
dynamic axes, and a small pack takes 4 s where dynamo takes 22 s. `exporter="dynamo"` gives fewer nodes (827
instead of 997 for a tiny step graph, the rest is shape arithmetic) at that price. Tracing freezes Python
branches, so the tests run every graph at a second size.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnx_ir as ir
import onnxscript.optimizer
import torch
from torch import Tensor, nn

OPSET = 20
INLINE_BYTES = 1024  # smaller tensors stay in the graph, where shape inference needs them
PAGE_BYTES = 1 << 20  # from this size on a tensor starts on a page, so that it can be mapped by itself
Axes = Mapping[str, Mapping[int, str]]
Storage = Literal["fp32", "fp16"]
Exporter = Literal["trace", "dynamo"]


def export_network(
    module: nn.Module,
    example_inputs: Mapping[str, Tensor],
    dynamic_axes: Axes,
    path: Path,
    storage: Storage = "fp32",
    exporter: Exporter = "trace",
) -> None:
    """Writes `path` (an .onnx file) and its weights beside it (same stem, .bin).

    example_inputs: by port name, in the order of `module.forward`.
    dynamic_axes: {port: {axis: name}} for inputs AND outputs; its keys that are no inputs name the outputs in
    order.
    storage "fp16": matrices are stored as halves and cast to float32 in the graph; vectors (biases, norms,
    frequency tables) stay float32, since they are small and the precision of some matters.
    Raises ValueError when a weight is not finite or does not fit into a half.
    """
    outputs = [name for name in dynamic_axes if name not in example_inputs]
    module = module.eval()
    with torch.no_grad():
        results = module(*example_inputs.values())
        results = results if isinstance(results, tuple) else (results,)
        if len(results) != len(outputs):
            raise ValueError(
                f"the module gives {len(results)} outputs, dynamic_axes names {len(outputs)}: {outputs}"
            )
        model = _to_ir(module, example_inputs, dynamic_axes, outputs, exporter)
    for value, tensor in zip(model.graph.inputs, example_inputs.values(), strict=True):
        value.shape = _shape(tensor, dynamic_axes.get(str(value.name), {}))
    for value, tensor in zip(model.graph.outputs, results, strict=True):
        value.shape = _shape(tensor, dynamic_axes[str(value.name)])
    _tidy(model)
    if storage == "fp16":
        _store_as_halves(model)
    _write(model, path)
    # By path, so that the checker sees the weights too; full_check runs shape inference over the whole graph.
    onnx.checker.check_model(str(path), full_check=True)


def _shape(tensor: Tensor, axes: Mapping[int, str]) -> ir.Shape:
    return ir.Shape([axes.get(i, extent) for i, extent in enumerate(tensor.shape)])


def _to_ir(
    module: nn.Module, inputs: Mapping[str, Tensor], axes: Axes, outputs: list[str], exporter: Exporter
) -> ir.Model:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracer warnings: frozen branches are checked by running other sizes
        raw = Path(folder) / "raw.onnx"
        if exporter == "dynamo":
            shapes = {name: dict.fromkeys(axes.get(name, {}), torch.export.Dim.AUTO) for name in inputs}
            program = torch.onnx.export(
                module,
                (),
                kwargs=dict(inputs),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=outputs,
                dynamic_shapes=shapes,
                verbose=False,
            )
            assert program is not None
            return program.model
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            str(raw),
            dynamo=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_axes={name: dict(a) for name, a in axes.items()},
        )
        model = ir.load(raw)
        onnxscript.optimizer.optimize_ir(model)
        for (
            value
        ) in model.graph.initializers.values():  # the temporary folder may hold the weights of a big model
            if isinstance(value.const_value, ir.ExternalTensor):
                value.const_value = ir.Tensor(value.const_value.numpy().copy(), name=value.name)
        return model


def _tidy(model: ir.Model) -> None:
    """Drops what says how and where the graph was made: it is not needed, and some of it varies."""
    model.producer_name, model.producer_version = "hoirt", None
    model.doc_string = None
    model.metadata_props.clear()
    model.graph.name = "network"
    for holder in (model.graph, *model.graph.all_nodes()):
        holder.doc_string = None
        holder.metadata_props.clear()
    keep = set(model.graph.inputs) | set(model.graph.outputs)
    for node in model.graph.all_nodes():
        for value in node.outputs:
            value.metadata_props.clear()
            if value not in keep:  # runtimes infer these again
                value.shape, value.type = None, None


def _is_matrix(array: np.ndarray) -> bool:
    return sum(extent > 1 for extent in array.shape) >= 2


def _store_as_halves(model: ir.Model) -> None:
    casts = []
    for name, value in sorted(model.graph.initializers.items()):
        if value.const_value is None or value.const_value.dtype != ir.DataType.FLOAT:
            continue
        array = value.const_value.numpy()
        if array.nbytes < INLINE_BYTES or not _is_matrix(array):
            continue
        if not np.isfinite(array).all() or np.abs(array).max() > np.finfo(np.float16).max:
            raise ValueError(
                f"the weight {name} is not finite or does not fit into float16; use storage='fp32'"
            )
        half = ir.tensor(array.astype(np.float16), name=f"{name}.fp16")
        stored = ir.Value(
            name=half.name, shape=ir.Shape(array.shape), type=ir.TensorType(ir.DataType.FLOAT16)
        )
        stored.const_value = half
        cast = ir.node("Cast", [stored], {"to": ir.DataType.FLOAT}, name=f"{name}.cast")
        del model.graph.initializers[name]
        value.replace_all_uses_with(cast.outputs[0])
        cast.outputs[0].name = name
        model.graph.register_initializer(stored)
        casts.append(cast)
    first = next(iter(model.graph), None)
    if first is not None and casts:
        model.graph.insert_before(first, casts)


def _write(model: ir.Model, path: Path) -> None:
    """Weights sorted by name into the .bin, everything else into the .onnx."""
    weights_path = path.with_suffix(".bin")
    weights = dict(sorted(model.graph.initializers.items()))
    model.graph.initializers.clear()
    offset = 0
    with weights_path.open("wb") as file:
        for name, value in weights.items():
            assert value.const_value is not None
            array = value.const_value.numpy()
            if array.nbytes >= INLINE_BYTES:
                alignment = 4096 if array.nbytes >= PAGE_BYTES else 64
                padding = -offset % alignment
                file.write(b"\0" * padding)
                file.write(array.tobytes())
                value.const_value = ir.ExternalTensor(
                    location=weights_path.name,
                    offset=offset + padding,
                    length=array.nbytes,
                    dtype=value.const_value.dtype,
                    shape=ir.Shape(array.shape),
                    name=name,
                    base_dir=str(path.parent),
                )
                offset += padding + array.nbytes
            else:
                value.const_value = ir.tensor(array, name=name)
            model.graph.initializers[name] = value
    if offset == 0:
        weights_path.unlink()
    path.write_bytes(ir.to_proto(model).SerializeToString(deterministic=True))
