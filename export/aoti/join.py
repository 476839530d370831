"""Joins the products of one value with several weights, such as queries, keys and values, into one product.

A GPU fills its multiprocessors with one wide product better than with three narrow ones after another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from .graph import Graph, Node


def join_products(graph: Graph) -> Graph:
    """The graph with products of the same value and weights of the same shape as one product, split after it.

    The weights are put side by side when the graph is read, like all that depends on weights alone.
    """
    producers = graph.producers()
    groups: dict[tuple[str, tuple[int, ...]], list[Node]] = {}
    for node in graph.nodes:
        shape = _shape_of(graph, producers, node.inputs[1]) if node.op == "MatMul" else ()
        if len(shape) == 2 and not _shape_of(graph, producers, node.inputs[0]):
            groups.setdefault((node.inputs[0], shape), []).append(node)
    groups = {key: group for key, group in groups.items() if len(group) > 1}
    first = {id(group[0]): group for group in groups.values()}
    done = {id(node) for group in groups.values() for node in group}
    nodes: list[Node] = []
    for node in graph.nodes:
        if id(node) in first:
            group = first[id(node)]
            casts = [producers[name] for _, name in (n.inputs for n in group) if name in producers]
            nodes += [cast for cast in casts if id(cast) not in done]  # they may come later in the graph
            done |= {id(cast) for cast in casts}
            nodes += _joined(group)
        elif id(node) not in done:
            done.add(id(node))
            nodes.append(node)
    return replace(graph, nodes=nodes)


def _shape_of(graph: Graph, producers: Mapping[str, Node], name: str) -> tuple[int, ...]:
    """Of a weight, or of one that is stored in another precision; () for any other value."""
    node = producers.get(name)
    stored = node.inputs[0] if node is not None and node.op == "Cast" else name
    weight = graph.weights.get(stored)
    return () if weight is None else weight.shape


def _joined(group: list[Node]) -> list[Node]:
    name = f"{group[0].outputs[0]}.joined"
    weight = f"{name}.weight"
    outputs = tuple(node.outputs[0] for node in group)
    return [
        Node("Concat", tuple(node.inputs[1] for node in group), (weight,), {"axis": 1}),
        Node("MatMul", (group[0].inputs[0], weight), (name,)),
        Node("Split", (name,), outputs, {"axis": -1, "num_outputs": len(group)}),
    ]
