"""Cuts a step graph into control, encoder and decoder, so that the first two can run side by side.

By data dependence alone: the ControlNet's residuals are what is multiplied by `control_scale`; the control
part is all that they need, the decoder is all that needs them, the encoder is what else the decoder reads.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from hoirt.errors import PackError

from .graph import Graph, Port
from .rewrite import extents_of

SCALE = "control_scale"
FORMS = ("Cast", "Reshape", "Unsqueeze", "Identity")  # in which the strengths reach the residuals
HEAVY = frozenset(["Conv", "MatMul", "Gemm", "Attention"])  # never computed twice


def split(graph: Graph) -> list[Graph]:
    """Control, encoder and decoder. Together they are the graph; cheap things that two of them need, such
    as a concatenation of inputs, both compute.

    Raises PackError for a graph that has no such parts.
    """
    if not any(port.name == SCALE for port in graph.inputs):
        raise PackError(f"only a step with the input {SCALE} can be split for two streams")
    scales = _after(graph, {SCALE}, through=FORMS)
    residuals = [
        name
        for node in graph.nodes
        if node.op == "Mul" and len(scales.intersection(node.inputs)) == 1
        for name in node.outputs
        if name not in scales
    ]
    if not residuals:
        raise PackError(f"nothing in this step is multiplied by {SCALE}")
    later = _after(graph, set(residuals))
    control_nodes = {name for node in graph.needed(residuals) for name in node.outputs}
    if later & control_nodes - set(residuals):
        raise PackError("the control network of this step needs what the rest computes")
    known = extents_of(graph) | set(graph.weights)
    for node in graph.nodes:  # what comes of weights alone, such as a cast, every part has for itself
        if known.issuperset(filter(None, node.inputs)):
            known.update(node.outputs)
    known |= {port.name for port in graph.inputs}
    passed = sorted(
        {
            name
            for node in graph.nodes
            if later.intersection(node.outputs) and not set(residuals).intersection(node.outputs)
            for name in node.inputs
            if name and name not in later and name not in known
        }
    )
    control = _part(graph, [_between(name) for name in sorted(residuals)])
    encoder = _part(graph, [_between(name) for name in passed])
    # Extents are no tensors and are not handed over: the decoder takes them from its own inputs.
    given = [*graph.inputs, *control.outputs, *encoder.outputs]
    decoder = graph.part(given, graph.outputs)
    read = {name for node in decoder.nodes for name in node.inputs}
    decoder.inputs = [port for port in given if port.name in read]
    _check(graph, [control, encoder, decoder])
    return [control, encoder, decoder]


def _after(graph: Graph, names: set[str], through: Collection[str] = ()) -> set[str]:
    """`names` and all values that depend on them; if `through` is given, by operators of these names only."""
    found = set(names)
    for node in graph.nodes:
        if found.intersection(node.inputs) and (not through or node.op in through):
            found.update(node.outputs)
    return found


def _between(name: str) -> Port:
    return Port(name, (), torch.float32, inner=True)


def _part(graph: Graph, outputs: list[Port]) -> Graph:
    part = graph.part(graph.inputs, outputs)
    read = {name for node in part.nodes for name in node.inputs}
    part.inputs = [port for port in graph.inputs if port.name in read]
    return part


def _check(graph: Graph, parts: list[Graph]) -> None:
    """Raises PackError unless every heavy node is in exactly one part."""
    counts: dict[str, int] = {}
    for part in parts:
        for node in part.nodes:
            counts[node.outputs[0]] = counts.get(node.outputs[0], 0) + 1
    for node in graph.nodes:
        if node.op in HEAVY and counts.get(node.outputs[0]) != 1:
            raise PackError(f"the step cannot be split: {node.outputs[0]} would be computed {counts} times")
