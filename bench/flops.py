"""Counts the floating-point operations of an ONNX network: its convolutions and matrix products.

A multiplication and an addition are two operations, as in torch.utils.flop_counter. OpenVINO works the shapes
out, since those of the attentions depend on values in the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

Shapes = Mapping[str, tuple[int, ...]]


def count(path: Path, shapes: Shapes) -> int:
    """The operations of one run of the network on inputs of these shapes (by name, all of them static).

    Raises ValueError for a wrong input, or when a shape does not follow from the inputs' shapes.
    """
    return sum(_operations(node) for node in _model(path, shapes).get_ordered_ops())


def output_shapes(path: Path, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """The outputs' shapes for inputs of these shapes. Raises ValueError as `count`."""
    return {port.any_name: _static(port) for port in _model(path, shapes).outputs}


def _model(path: Path, shapes: Shapes) -> Any:
    """The graph for these inputs, as an openvino.Model."""
    import openvino

    model = openvino.Core().read_model(str(path))
    for port in model.inputs:
        rank = len(port.partial_shape)
        if len(shapes.get(port.any_name, ())) != rank:
            raise ValueError(f"the input {port.any_name} needs a shape of {rank} extents")
    model.reshape({port.any_name: list(shapes[port.any_name]) for port in model.inputs})
    return model


def _operations(node: Any) -> int:
    """Weights are (out, in, ...), of transposed convolutions (in, out, ...), with any groups before them."""
    kind = node.get_type_name()
    if kind not in _KINDS:
        return 0
    first, second = (_static(port) for port in list(node.inputs())[:2])
    out = _static(node.output(0))
    if kind == "MatMul":
        return 2 * prod(out) * first[-2 if node.get_attributes()["transpose_a"] else -1]
    per_element = prod(second[2 if kind.startswith("Group") else 1 :])
    return 2 * prod(first if kind.endswith("BackpropData") else out) * per_element


_KINDS = {
    "MatMul",
    "Convolution",
    "GroupConvolution",
    "ConvolutionBackpropData",
    "GroupConvolutionBackpropData",
}


def _static(port: Any) -> tuple[int, ...]:
    if port.get_partial_shape().is_dynamic:
        raise ValueError(
            f"the shape at {port.get_node().get_friendly_name()} does not follow from the inputs"
        )
    return tuple(port.get_shape())


def counted_by_torch(module: nn.Module, *inputs: Tensor) -> tuple[int, Any]:
    """The operations of one run of a torch module, also on the device "meta", and what it returned."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # The fused attention of the CPU is not counted, its plain form is.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        result = module.eval()(*inputs)
    return int(counter.get_total_flops()), result


def of_run(full: int, reuse: int, guided: Sequence[bool], reused: Sequence[bool]) -> int:
    """The operations of all rows of a step table: `full` and `reuse` are those of one item in one step, and
    rows that are guided run two items.
    """
    return sum(
        (reuse if again else full) * (2 if both else 1) for both, again in zip(guided, reused, strict=True)
    )
