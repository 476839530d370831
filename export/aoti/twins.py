"""What both halves of a guided batch have in common, computed once: all that comes before the text does.

The halves of such a batch differ in the text alone. In the graph that is made here the inputs in which they
are alike ("twins") may have half of the items, and what the text's part reads of them is repeated along the
first axis, up to as many items as the text has.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import torch
from hoirt.packs import Pack
from torch import Tensor

from .graph import Graph, Node, Port
from .items import repeat_items
from .module import OnnxModule
from .operators import Attributes, operator
from .rewrite import extents_of
from .shapes import BATCH, Extents
from .split import HEAVY

FEW = 8  # less of these is not worth it
BOTH = " (both)"  # how repeated values are called
REPEAT = "RepeatItems"
TOLERANCE = 1e-4  # of the largest value: which kernels run, and so the rounding, depends on the batch


def twins_of(pack: Pack, role: str) -> tuple[str, ...]:
    """The inputs of a network in which both halves of a guided batch are alike; () of all but steps."""
    networks = pack.manifest.networks
    alike = {"sample", "hint", "inpaint"} if role.startswith("step") else set()
    if alike and "text_encoder_2" not in networks:  # SDXL's time holds the pooled text
        alike.add("time")
    return tuple(name for name in networks[role].inputs if name in alike)


def share_twins(graph: Graph, twins: Collection[str]) -> Graph | None:
    """The graph in which the inputs `twins` may have half of the items; None if that saves too little.

    It is right where items lie one after the other along the first axis of what is repeated: see are_alike().
    """
    like = next((port.name for port in graph.inputs if _counts(port) and port.name not in twins), "")
    alike = _alike(graph, twins)
    worth = [node for node in graph.nodes if node.op in HEAVY and alike.issuperset(node.outputs)]
    if not like or len(worth) < FEW or not alike.isdisjoint(port.name for port in graph.outputs):
        return None
    costly = {name for node in worth for name in node.outputs}
    extents = extents_of(graph)
    nodes = [_repeat(name, like) for name in twins]
    repeated = {name: name + BOTH for name in twins}
    for node in graph.nodes:
        both = replace(node, inputs=tuple(repeated.get(name, name) for name in node.inputs))
        if not alike.issuperset(node.outputs):
            nodes.append(both)
            continue
        nodes.append(node)
        repeated |= {name: name + BOTH for name in node.outputs}
        if not costly.isdisjoint(node.inputs):
            costly.update(node.outputs)
        if costly.isdisjoint(node.outputs) or not extents.isdisjoint(node.outputs):
            nodes.append(replace(both, outputs=tuple(name + BOTH for name in node.outputs)))
        else:
            nodes += [_repeat(name, like) for name in node.outputs]
    shared = replace(graph, nodes=nodes)
    return replace(shared, nodes=shared.needed(port.name for port in graph.outputs))


def are_alike(graph: Graph, shared: Graph, extents: Extents) -> bool:
    """Whether `shared` repeats what `graph` computes of doubled twins, tried with random numbers on the CPU.

    extents: of a batch of two or more small halves, as only how items lie is in question.
    """
    repeats = [node for node in shared.nodes if node.op == REPEAT]
    random = torch.Generator().manual_seed(0)
    given = [torch.randn(*extents.of(port), generator=random).to(port.dtype) for port in graph.inputs]
    doubled = [2 if port.name in extents.twins else 1 for port in graph.inputs]
    whole = [torch.cat([value] * times) for value, times in zip(given, doubled, strict=True)]
    found = _run(shared, given, [node.outputs[0] for node in repeats])
    wanted = _run(graph, whole, [node.inputs[0] for node in repeats])
    return all(
        a.shape == b.shape and float((a - b).abs().max()) <= TOLERANCE * float(b.abs().max())
        for a, b in zip(found, wanted, strict=True)
    )


def _run(graph: Graph, values: list[Tensor], names: list[str]) -> list[Tensor]:
    part = graph.part(graph.inputs, [Port(name, (), torch.float32) for name in names])
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


def _counts(port: Port) -> bool:
    return bool(port.shape) and port.shape[0] in BATCH


def _repeat(name: str, like: str) -> Node:
    return Node(REPEAT, (name, like), (name + BOTH,))


@operator(REPEAT)
def _repeated(attributes: Attributes, compute: torch.dtype, value: Tensor, like: Tensor) -> Tensor:
    return repeat_items(value, like)
