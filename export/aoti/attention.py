"""Which of torch's attention kernels a GPU runs faster: its usual choice or cuDNN's."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.nn import functional

from .trials import Clock, Operand, alike, is_sooner, on_device, operand_of

USUAL = torch.ops.aten.scaled_dot_product_attention.default
CUDNN = torch.ops.aten._scaled_dot_product_cudnn_attention.default


def choose_attention(program: ExportedProgram, device: str, clock: Clock | None = None) -> tuple[int, int]:
    """Gives to cuDNN the attentions of a program that it computes faster on `device`.

    Those with a mask, and in float32, stay as they are. clock: see is_sooner(). Returns how many are cuDNN's
    now, and how many there are.
    """
    known: dict[Any, bool] = {}
    nodes = [node for node in program.graph.nodes if node.target is USUAL]
    taken = 0
    with on_device(device):
        for node in nodes:
            operands, scale = _operands(node), node.kwargs.get("scale")
            if operands is None:
                continue
            key = (operands, scale)
            if key not in known:
                known[key] = _is_faster(operands, scale, clock)
            if known[key]:
                _give(program.graph, node)
                taken += 1
    program.graph_module.recompile()
    return taken, len(nodes)


def _operands(node: fx.Node) -> tuple[Operand, ...] | None:
    """Queries, keys and values of an attention without mask in half precision."""
    if len(node.args) != 3 or node.kwargs.keys() - {"scale"}:
        return None
    found = [operand_of(argument) for argument in node.args]
    return None if None in found else tuple(operand for operand in found if operand)


def _is_faster(operands: tuple[Operand, ...], scale: Any, clock: Clock | None) -> bool:
    """Whether cuDNN computes it, alike in values and in the layout that torch expects, and sooner."""
    given = [operand.filled() for operand in operands]

    def usual() -> Tensor:
        return functional.scaled_dot_product_attention(*given, scale=scale)

    expected = usual()
    try:
        found = _by_cudnn(given, scale)
        layout = _by_cudnn([operand.like("meta") for operand in operands], scale).stride()
        if found.stride() != layout or not alike(found, expected):
            return False
        return is_sooner(lambda: _by_cudnn(given, scale), usual, clock)
    except RuntimeError:  # cuDNN has no kernel for these sizes or this GPU
        return False


def _by_cudnn(given: list[Tensor], scale: Any) -> Tensor:
    made: Tensor = CUDNN(*given, None, False, 0.0, False, False, scale=scale)[0]
    return made


def _give(graph: fx.Graph, node: fx.Node) -> None:
    """cuDNN's operator in the place of an attention."""
    with graph.inserting_before(node):
        arguments = (*node.args, None, False, 0.0, False, False)
        made = graph.call_function(CUDNN, arguments, {"scale": node.kwargs.get("scale")})
        first = graph.call_function(operator.getitem, (made, 0))
    first.meta.update(node.meta)
    node.replace_all_uses_with(first)
    graph.erase_node(node)
