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

import onnx
import onnx_ir as ir
import onnxscript.optimizer
import torch
from torch import Tensor, nn

from .weights_file import Progress, Storage, store_narrow, write_model

OPSET = 20
Axes = Mapping[str, Mapping[int, str]]
Exporter = Literal["trace", "dynamo"]


def export_network(
    module: nn.Module,
    example_inputs: Mapping[str, Tensor],
    dynamic_axes: Axes,
    path: Path,
    storage: Storage = "fp32",
    exporter: Exporter = "trace",
    progress: Progress | None = None,
) -> dict[str, str]:
    """Writes `path` (an .onnx file) and its weights beside it (same stem, .bin); returns sha256 by name.

    example_inputs: by port name, in the order of `module.forward`.
    dynamic_axes: {port: {axis: name}} for inputs AND outputs; its keys that are no inputs name the outputs in
    order.
    storage: see `store_narrow`; ValueError when a weight is not finite or does not fit.
    progress: called with the bytes of each weight that was written.
    """
    outputs = names_of_outputs(example_inputs, dynamic_axes)
    module = module.eval()
    with torch.no_grad():
        results = module(*example_inputs.values())
        results = results if isinstance(results, tuple) else (results,)
        if len(results) != len(outputs):
            raise ValueError(
                f"the module gives {len(results)} outputs, dynamic_axes names {len(outputs)}: {outputs}"
            )
        model = _to_ir(module, example_inputs, dynamic_axes, outputs, exporter)
    set_shapes(model, example_inputs, dict(zip(outputs, results, strict=True)), dynamic_axes)
    return finish(model, path, storage, progress)


def names_of_outputs(inputs: Mapping[str, Tensor], axes: Axes) -> list[str]:
    """The ports in `axes` that are no inputs, in order."""
    return [name for name in axes if name not in inputs]


def set_shapes(
    model: ir.Model, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor], axes: Axes
) -> None:
    """Gives the ports of the graph the shapes of the examples, with the names of the free extents."""
    for values, tensors in ((model.graph.inputs, inputs), (model.graph.outputs, outputs)):
        for value, (name, tensor) in zip(values, tensors.items(), strict=True):
            value.shape = ir.Shape(
                [axes.get(name, {}).get(i, extent) for i, extent in enumerate(tensor.shape)]
            )


def finish(model: ir.Model, path: Path, storage: Storage, progress: Progress | None) -> dict[str, str]:
    """Tidies the graph, writes it and its weights and checks the result; returns sha256 by file name."""
    _tidy(model)
    store_narrow(model, storage)
    hashes = write_model(model, path, progress)
    # By path, so that the checker sees the weights too; full_check runs shape inference over the whole graph.
    onnx.checker.check_model(str(path), full_check=True)
    return hashes


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
