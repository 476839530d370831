"""Which of torch's attention kernels a GPU runs faster: its usual choice or cuDNN's, found by trying both."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.nn import functional

USUAL = torch.ops.aten.scaled_dot_product_attention.default
CUDNN = torch.ops.aten._scaled_dot_product_cudnn_attention.default
HALVES = (torch.bfloat16, torch.float16)
WORTH = 0.97  # of the usual time: less gained may be the clock's
TOLERANCE = 0.02  # of the largest value; both round a half's products

Clock = Callable[[Callable[[], Tensor]], float]


@dataclass(frozen=True)
class _Operand:
    """Size, strides and dtype of queries, keys or values; a free batch is that of the example."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def like(self, device: str | None = None) -> Tensor:
        return torch.empty_strided(self.size, self.stride, dtype=self.dtype, device=device)


def choose_attention(program: ExportedProgram, device: str, clock: Clock | None = None) -> tuple[int, int]:
    """Gives to cuDNN the attentions of an exported program that it computes faster on `device`.

    Those with a mask, and in float32, stay as they are. clock: milliseconds of a call; None: of one that a
    CUDA graph replays. Returns how many are cuDNN's now, and how many there are.
    """
    known: dict[tuple[Any, ...], bool] = {}
    nodes = [node for node in program.graph.nodes if node.target is USUAL]
    taken = 0
    with torch.no_grad(), torch.device(device), _current(device):
        for node in nodes:
            operands, scale = _operands(node), node.kwargs.get("scale")
            if operands is None:
                continue
            key = (*operands, scale)
            if key not in known:
                known[key] = _is_faster(operands, scale, clock or replayed)
            if known[key]:
                _give(program.graph, node)
                taken += 1
    program.graph_module.recompile()
    return taken, len(nodes)


def replayed(call: Callable[[], Tensor], times: int = 10) -> float:
    """Milliseconds of one of `times` calls that a CUDA graph replays: the kernels' without the host's."""
    call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(times):
            call()
    found = []
    for _ in range(5):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        found.append(float(start.elapsed_time(end)) / times)
    return min(found)


def _current(device: str) -> contextlib.AbstractContextManager[Any]:
    """The device on which streams and graphs are made; none for the CPU."""
    return torch.cuda.device(device) if device.startswith("cuda") else contextlib.nullcontext()


def _operands(node: fx.Node) -> tuple[_Operand, ...] | None:
    """Queries, keys and values of an attention without mask in half precision."""
    if len(node.args) != 3 or node.kwargs.keys() - {"scale"}:
        return None
    values = [argument.meta["val"] for argument in node.args if isinstance(argument, fx.Node)]
    if len(values) != 3 or any(value.dtype not in HALVES or value.ndim != 4 for value in values):
        return None
    return tuple(
        _Operand(tuple(map(_number, value.shape)), tuple(map(_number, value.stride())), value.dtype)
        for value in values
    )


def _number(extent: Any) -> int:
    """An extent, or what it is in the example: asking a symbol for its value would fix it."""
    return extent if isinstance(extent, int) else int(extent.node.hint)


def _is_faster(operands: tuple[_Operand, ...], scale: Any, clock: Clock) -> bool:
    """Whether cuDNN computes it, alike in values and in the layout that torch expects, and sooner."""
    given = [operand.like().normal_() for operand in operands]

    def usual() -> Tensor:
        return functional.scaled_dot_product_attention(*given, scale=scale)

    expected = usual()
    try:
        found = _by_cudnn(given, scale)
        layout = _by_cudnn([operand.like("meta") for operand in operands], scale).stride()
        error = (found - expected).abs().max()
        if found.stride() != layout or not error <= TOLERANCE * expected.abs().max():
            return False
        return clock(lambda: _by_cudnn(given, scale)) < WORTH * clock(usual)
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
