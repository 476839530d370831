"""Which of torch's attention kernels a GPU runs faster: its usual choice or cuDNN's."""

from __future__ import annotations

import operator
from dataclasses import dataclass

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.nn import functional

from .trials import Clock, Operand, alike, choose, is_sooner, operand_of

USUAL = torch.ops.aten.scaled_dot_product_attention.default
CUDNN = torch.ops.aten._scaled_dot_product_cudnn_attention.default
# What cuDNN has no kernel for, by device. torch 2.11 keeps an empty graph of it and follows its null pointer
# when it is asked again, so that is never done in this process.
_refused: set[tuple[str, tuple[Operand, ...]]] = set()


@dataclass(frozen=True)
class Attention:
    """One without a mask: queries, keys and values (N, heads, L, D), and the scale; None is torch's own."""

    operands: tuple[Operand, ...]
    scale: float | None


def choose_attention(program: ExportedProgram, device: str, clock: Clock | None = None) -> tuple[int, int]:
    """Gives to cuDNN the attentions of a program that it computes faster on `device`.

    Those with a mask, and in float32, stay as they are. clock: see is_sooner(). Returns how many are cuDNN's
    now, and how many there are.
    """
    return choose(program, device, USUAL, _attention, lambda found: _is_faster(found, clock), _give)


def _attention(node: fx.Node) -> Attention | None:
    """What a node computes, if cuDNN could."""
    if len(node.args) != 3 or node.kwargs.keys() - {"scale"}:
        return None
    operands = tuple(operand for argument in node.args if (operand := operand_of(argument)))
    return Attention(operands, node.kwargs.get("scale")) if len(operands) == 3 else None


def _is_faster(attention: Attention, clock: Clock | None) -> bool:
    """Whether cuDNN computes it, alike in values and in the layout that torch expects, and sooner."""
    given, scale = [operand.filled() for operand in attention.operands], attention.scale
    asked = str(given[0].device), attention.operands  # torch does not look at the scale either
    if asked in _refused:
        return False

    def usual() -> Tensor:
        return functional.scaled_dot_product_attention(*given, scale=scale)

    expected = usual()
    _refused.add(asked)
    try:
        found = _by_cudnn(given, scale)
        _refused.remove(asked)
        layout = _by_cudnn([operand.like("meta") for operand in attention.operands], scale).stride()
        if found.stride() != layout or not alike(found, expected):
            return False
        return is_sooner(lambda: _by_cudnn(given, scale), usual, clock)
    except RuntimeError:  # cuDNN has no kernel for these sizes or this GPU, or none that a graph can hold
        return False


def _by_cudnn(given: list[Tensor], scale: float | None) -> Tensor:
    made: Tensor = CUDNN(*given, None, False, 0.0, False, False, scale=scale)[0]
    return made


def _give(graph: fx.Graph, node: fx.Node, attention: Attention) -> None:
    """cuDNN's operator in the place of an attention."""
    with graph.inserting_before(node):
        arguments = (*node.args, None, False, 0.0, False, False)
        made = graph.call_function(CUDNN, arguments, {"scale": attention.scale})
        first = graph.call_function(operator.getitem, (made, 0))
    first.meta.update(node.meta)
    node.replace_all_uses_with(first)
    graph.erase_node(node)
