"""What both halves of a guided batch have in common, computed once: all that comes before the text does.

The halves of such a batch differ in the text alone. In the graph that is made here the inputs in which they
are alike ("twins") have half of the items, and what the text's part reads of them is doubled: it comes twice
along the first axis.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import torch
from hoirt.packs import Pack
from torch import Tensor

from .graph import Graph, Node, Port
from .module import OnnxModule
from .rewrite import extents_of
from .split import HEAVY

FEW = 8  # less of these is not worth it
BOTH = " (both)"  # how doubled values are called
TOLERANCE = 1e-4  # of the largest value: which kernels run, and so the rounding, depends on the batch


def twins_of(pack: Pack, role: str) -> tuple[str, ...]:
    """The inputs of a network in which both halves of a guided batch are alike; () of all but steps."""
    networks = pack.manifest.networks
    alike = {"sample", "hint", "inpaint"} if role.startswith("step") else set()
    if alike and "text_encoder_2" not in networks:  # SDXL's time holds the pooled text
        alike.add("time")
    return tuple(name for name in networks[role].inputs if name in alike)


def share_twins(graph: Graph, twins: Collection[str]) -> Graph | None:
    """The graph in which the inputs `twins` have half of the items; None if that saves too little.

    It is right where items lie one after the other along the first axis of what is doubled: see are_alike().
    """
    alike = _alike(graph, twins)
    worth = [node for node in graph.nodes if node.op in HEAVY and alike.issuperset(node.outputs)]
    if len(worth) < FEW or not alike.isdisjoint(port.name for port in graph.outputs):
        return None
    costly = {name for node in worth for name in node.outputs}
    extents = extents_of(graph)
    nodes = [_double(name) for name in twins]
    doubled = {name: name + BOTH for name in twins}
    for node in graph.nodes:
        both = replace(node, inputs=tuple(doubled.get(name, name) for name in node.inputs))
        if not alike.issuperset(node.outputs):
            nodes.append(both)
            continue
        nodes.append(node)
        doubled |= {name: name + BOTH for name in node.outputs}
        if not costly.isdisjoint(node.inputs):
            costly.update(node.outputs)
        if costly.isdisjoint(node.outputs) or not extents.isdisjoint(node.outputs):
            nodes.append(replace(both, outputs=tuple(name + BOTH for name in node.outputs)))
        else:
            nodes += [_double(name) for name in node.outputs]
    shared = replace(graph, nodes=nodes)
    return replace(shared, nodes=shared.needed(port.name for port in graph.outputs))


def are_alike(graph: Graph, shared: Graph, shapes: Mapping[str, Sequence[int]]) -> bool:
    """Whether `shared` doubles what `graph` computes of doubled twins, tried with random numbers on the CPU.

    shapes: of the twins, with half of the items. Two small ones show it: only how items lie is in question.
    """
    doubled = [node for node in shared.nodes if node.inputs and node == _double(node.inputs[0])]
    inputs = [port for port in graph.inputs if port.name in shapes]
    random = torch.Generator().manual_seed(0)
    halves = [torch.randn(*shapes[port.name], generator=random).to(port.dtype) for port in inputs]
    wholes = [torch.cat([half, half]) for half in halves]
    found = _run(shared, inputs, halves, [node.outputs[0] for node in doubled])
    wanted = _run(graph, inputs, wholes, [node.inputs[0] for node in doubled])
    return all(
        a.shape == b.shape and float((a - b).abs().max()) <= TOLERANCE * float(b.abs().max())
        for a, b in zip(found, wanted, strict=True)
    )


def _run(graph: Graph, inputs: list[Port], values: list[Tensor], names: list[str]) -> list[Tensor]:
    part = graph.part(inputs, [Port(name, (), torch.float32) for name in names])
    with torch.no_grad():
        return list(OnnxModule(part)(*values))


def _alike(graph: Graph, twins: Collection[str]) -> set[str]:
    """What is computed of twins, and perhaps of weights, alone."""
    fixed, alike = {"", *graph.weights}, set(twins)
    for node in graph.nodes:
        if fixed.issuperset(node.inputs):
            fixed.update(node.outputs)
        elif (fixed | alike).issuperset(node.inputs):
            alike.update(node.outputs)
    return alike


def _double(name: str) -> Node:
    return Node("Concat", (name, name), (name + BOTH,), {"axis": 0})
