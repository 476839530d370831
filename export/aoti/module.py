"""OnnxModule: a graph of a pack as a torch module that can be exported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hoirt.errors import PackError
from torch import Tensor, nn

from . import fp8
from . import layers as _layers  # noqa: F401  registers its operators
from .extents import OPERATORS as ON_EXTENTS
from .extents import evaluate
from .graph import Graph, Node, Port
from .inputs import cast
from .operators import OPERATORS
from .rewrite import FEW, extents_of, is_small

COMPUTE = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.bfloat16}
NUMBERS = {
    "Attention": (1, 3),
    "Clip": (1, 2),
    "Pad": (2,),
    "Resize": (2,),
}  # inputs that operators want as numbers


class OnnxModule(nn.Module):
    """Runs the nodes of a graph; its inputs and outputs are those of the graph, in order and dtype.

    Everything inside that is a float has the dtype of `precision`; group and layer normalisation, softmax and
    the sums of products accumulate in float32 all the same, as torch's kernels do.
    """

    def __init__(
        self, graph: Graph, precision: str = "fp32", *, device: str = "cpu", channels_last: bool = False
    ) -> None:
        """Reads the weights, one by one, in the dtype of `precision` ("fp32", "bf16", "fp16" or "fp8").

        channels_last: convolutions work in that layout. Raises PackError for a graph with other operators
        than the importer has.
        """
        super().__init__()
        missing = {node.op for node in graph.nodes} - OPERATORS.keys()
        if missing:
            raise PackError(f"operators that cannot be compiled: {', '.join(sorted(missing))}")
        self.graph = graph
        self.compute = COMPUTE[precision]
        self._device = device
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self._extents = extents_of(graph)
        self._numbers: dict[str, Any] = {}  # small constants as numbers
        self._as_numbers = {node.inputs[i] for node in graph.nodes for i in _numbers_of(node)}
        self._whole: dict[str, Any] = {}  # those of them that are whole, and never needed as tensors
        self._names: dict[str, str] = {}
        self._narrow_products = precision == "fp8"
        with torch.no_grad():
            self._nodes = self._fold(device)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """One tensor for each input of the graph to one for each output."""
        values: dict[str, Any] = {
            port.name: cast(tensor, self.compute) if tensor.is_floating_point() else tensor
            for port, tensor in zip(self.graph.inputs, inputs, strict=True)
        }

        def look(name: str) -> Any:
            return values[name] if name in values else self._constant(name)

        with torch.device(self._device):  # for what is made of extents
            for node in self._nodes:
                self._run(node, look, values)
        return tuple(self._laid_out(look(port.name).to(port.dtype), port) for port in self.graph.outputs)

    def _laid_out(self, tensor: Tensor, port: Port) -> Tensor:
        """An output as its reader expects it: the layout is compiled into that reader."""
        inner = port.inner and tensor.ndim == 4
        return tensor.contiguous(memory_format=self._layout if inner else torch.contiguous_format)

    def _run(self, node: Node, look: Callable[[str], Any], values: dict[str, Any]) -> None:
        """Adds the outputs of a node to `values`."""
        given = [look(name) if name else None for name in node.inputs]
        on_extents = node.op in ON_EXTENTS and node.outputs[0] in self._extents
        for position in range(len(given)) if on_extents else _numbers_of(node):
            given[position] = self._numbers.get(node.inputs[position], given[position])
        if on_extents:
            made: Any = evaluate(node.op, given, node.attributes)
        else:
            made = OPERATORS[node.op](node.attributes, self.compute, *given)
        values.update(zip(node.outputs, made if len(node.outputs) > 1 else [made], strict=True))

    def _constant(self, name: str) -> Any:
        return self._whole[name] if name in self._whole else getattr(self, self._names[name])

    def _fold(self, device: str) -> list[Node]:
        """Computes what depends on weights alone and keeps what the other nodes read of it; returns those."""
        made: dict[str, Any] = {}
        left = {name: len(nodes) for name, nodes in self.graph.consumers().items()}
        fixed = self._fixed = set(self.graph.weights)
        rest = []

        def look(name: str) -> Any:
            return made[name] if name in made else self._read(name)

        for node in self.graph.nodes:
            if not fixed.issuperset(filter(None, node.inputs)):
                rest.append(node)
                continue
            fixed.update(node.outputs)
            self._run(node, look, made)
            for name in set(node.inputs):  # what nobody reads any more need not stay in memory
                left[name] = left.get(name, 1) - 1
                if not left[name]:
                    made.pop(name, None)
        if self._narrow_products:
            rest = [self._narrowed(node, look, device) if node.op == "MatMul" else node for node in rest]
        wanted = {name for node in rest for name in node.inputs} | {port.name for port in self.graph.outputs}
        convolved = {node.inputs[1] for node in rest if node.op == "Conv"}
        for name in sorted((fixed & wanted) - self._names.keys()):
            self._keep(name, look(name), device, name in convolved)
            made.pop(name, None)
        return rest

    def _narrowed(self, node: Node, look: Callable[[str], Any], device: str) -> Node:
        """A product with a weight in float8, if its sides allow that; else the node as it is."""
        x, name = node.inputs
        if name not in self._fixed or not fp8.fits(weight := look(name)):
            return node
        stored = (f"{name}.fp8", f"{name}.scale")
        for label, value in zip(stored, fp8.quantised(weight), strict=True):
            self._add(label, value, device)
        return Node("MatMulFp8", (x, *stored), node.outputs)

    def _read(self, name: str) -> Any:
        """A weight, or a small one that is whole numbers as these."""
        weight = self.graph.weights[name]
        tensor = weight.read()
        if not is_small(weight):
            return tensor
        self._numbers[name] = tensor.tolist()
        return tensor if tensor.is_floating_point() else tensor.tolist()

    def _keep(self, name: str, value: Any, device: str, convolved: bool) -> None:
        if (
            isinstance(value, Tensor)
            and value.dtype == torch.int64
            and value.ndim < 2
            and value.numel() <= FEW
        ):
            value = value.tolist()  # computed from constants, and perhaps extents
        if not isinstance(value, Tensor):
            self._whole[name] = value
            return
        if name in self._as_numbers:
            self._numbers[name] = value.tolist()
        if value.is_floating_point():
            value = value.to(self.compute)
        if convolved and value.ndim == 4:
            value = value.contiguous(memory_format=self._layout)
        self._add(name, value, device)

    def _add(self, name: str, value: Tensor, device: str) -> None:
        buffer = f"weight_{len(self._names)}"
        self.register_buffer(buffer, value.to(device))
        self._names[name] = buffer


def _numbers_of(node: Node) -> list[int]:
    """The positions of the inputs that the operator wants as numbers, as far as they are given."""
    return [i for i in NUMBERS.get(node.op, ()) if i < len(node.inputs)]
