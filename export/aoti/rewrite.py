"""Finds attention, group normalisation and SiLU in the small operators that exporters write them in.

The new nodes have names that ONNX has not: `Attention(q, scale, k transposed, scale, v, mask)`,
`GroupNorm(x, weight, bias)` and `Silu(x)`. Packs hold layer normalisation and GELU as single operators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from .extents import OPERATORS as ON_EXTENTS
from .graph import Graph, Node, Weight
from .join import join_products

# Operators on extents, which give extents again if all that they read are: all else computes with tensors.
OF_EXTENTS = frozenset(ON_EXTENTS.keys() - {"ConstantOfShape"})
FEW = 64  # elements of a constant that may be extents


def rewrite(graph: Graph) -> Graph:
    """The graph with these operators joined, products of one value too, and without what nobody reads."""
    graph = join_products(graph)
    for find in (_attention, _group_norm, _silu):
        graph = _replace(graph, find)
    return replace(graph, nodes=graph.needed(port.name for port in graph.outputs))


def extents_of(graph: Graph) -> set[str]:
    """Names of the values that are computed from shapes and small constants alone."""
    known = {name for name, weight in graph.weights.items() if is_small(weight)}
    for node in graph.nodes:
        if node.op in OF_EXTENTS:
            fits = known.issuperset(filter(None, node.inputs))
            if node.op == "Reshape" and fits:  # to more than a vector: a table, such as of padding
                target = graph.weights.get(node.inputs[1])
                fits = target is not None and target.shape in ((0,), (1,))
        else:
            counted = node.op == "ConstantOfShape" and _is_count(graph.weights.get(node.inputs[0]))
            fits = node.op == "Shape" or counted
        if fits:
            known.update(node.outputs)
    return known


def _is_count(weight: Weight | None) -> bool:
    """Whether a constant is one whole number: as a shape, that of a vector, which may be extents."""
    return weight is not None and weight.shape == (1,) and is_small(weight) and int(weight.read()) <= FEW


def is_small(weight: Weight) -> bool:
    """Whether a constant may be extents: whole numbers along at most one axis, or one number."""
    count = int(torch.Size(weight.shape).numel())
    if len(weight.shape) > 1 or count > FEW:
        return False
    return weight.dtype in (torch.int64, torch.int32) or (count == 1 and weight.dtype == torch.float32)


class Finder:
    """What the patterns look at: who makes and who reads a value."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.producers = graph.producers()
        self.consumers = graph.consumers()
        self.extents = extents_of(graph)

    def made_by(self, name: str, *ops: str) -> Node | None:
        """The node that makes `name`, if it is one of `ops`."""
        node = self.producers.get(name)
        return node if node is not None and node.op in ops else None

    def only_reader(self, name: str, *ops: str) -> Node | None:
        """The node that alone reads `name`, if it is one of `ops`."""
        readers = self.consumers.get(name, [])
        return readers[0] if len(readers) == 1 and readers[0].op in ops else None

    def unscaled(self, name: str) -> tuple[str, str]:
        """`name` as the product of a tensor and a number made of extents: their names, "" for no number."""
        node = self.made_by(name, "Mul")
        if node is not None:
            for tensor, number in (node.inputs, node.inputs[::-1]):
                if number in self.extents and tensor not in self.extents:
                    return tensor, number
        return name, ""


Find = Callable[[Finder, Node], Node | None]


def _replace(graph: Graph, find: Find) -> Graph:
    """`find` is given every node and may return another that makes the same outputs."""
    finder = Finder(graph)
    return replace(graph, nodes=[find(finder, node) or node for node in graph.nodes])


def _attention(finder: Finder, node: Node) -> Node | None:
    """softmax(q k^T (+ mask)) v."""
    if node.op != "MatMul":
        return None
    softmax = finder.made_by(node.inputs[0], "Softmax")
    if softmax is None or softmax.attributes.get("axis", -1) not in (-1, 3):
        return None
    scores, mask = softmax.inputs[0], ""
    added = finder.made_by(scores, "Add")
    if added is not None:
        for left, right in (added.inputs, added.inputs[::-1]):
            if finder.made_by(left, "MatMul"):
                scores, mask = left, right
                break
    product = finder.made_by(scores, "MatMul")
    if product is None or finder.made_by(product.inputs[0], "Softmax"):
        return None
    q, q_scale = finder.unscaled(product.inputs[0])
    k, k_scale = finder.unscaled(product.inputs[1])
    if not _is_transposed(finder, k):
        return None
    return Node("Attention", (q, q_scale, k, k_scale, node.inputs[1], mask), node.outputs)


def _is_transposed(finder: Finder, name: str) -> bool:
    """Whether the last two axes come out of a transposition: then turning them back costs nothing."""
    node = finder.made_by(name, "Transpose")
    return node is not None and len(node.attributes.get("perm", ())) in (3, 4)


def _group_norm(finder: Finder, node: Node) -> Node | None:
    """Reshape to groups, InstanceNormalization by 1 and 0, Reshape back, times weight, plus bias."""
    if node.op != "Add":
        return None
    for product, bias in (node.inputs, node.inputs[::-1]):
        scaled = finder.made_by(product, "Mul")
        if scaled is None or bias not in finder.graph.weights:
            continue
        for value, weight in (scaled.inputs, scaled.inputs[::-1]):
            back = finder.made_by(value, "Reshape")
            normed = back and finder.made_by(back.inputs[0], "InstanceNormalization")
            grouped = normed and finder.made_by(normed.inputs[0], "Reshape")
            if not (back and normed and grouped) or weight not in finder.graph.weights:
                continue
            groups = _groups(finder.graph.weights, grouped, normed)
            shape = finder.made_by(back.inputs[1], "Shape")
            if groups and shape is not None and shape.inputs == grouped.inputs[:1]:
                attributes = {"groups": groups, "epsilon": normed.attributes.get("epsilon", 1e-5)}
                return Node("GroupNorm", (grouped.inputs[0], weight, bias), node.outputs, attributes)
    return None


def _groups(weights: Mapping[str, Weight], grouped: Node, normed: Node) -> int:
    """The number of groups, or 0 if this is no group normalisation."""
    if not all(name in weights for name in (grouped.inputs[1], *normed.inputs[1:])):
        return 0
    shape = weights[grouped.inputs[1]].read().tolist()
    scale, shift = (weights[name].read() for name in normed.inputs[1:])
    plain = bool((scale == 1).all()) and bool((shift == 0).all())
    return shape[1] if plain and len(shape) == 3 and shape[0] == 0 and shape[2] == -1 else 0


def _silu(finder: Finder, node: Node) -> Node | None:
    """x * sigmoid(x)."""
    if node.op != "Mul":
        return None
    for value, gate in (node.inputs, node.inputs[::-1]):
        sigmoid = finder.made_by(gate, "Sigmoid")
        if sigmoid is not None and sigmoid.inputs == (value,):
            return Node("Silu", (value,), node.outputs)
    return None
