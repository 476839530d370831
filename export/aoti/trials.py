"""Two ways to compute one node of an exported program, tried on the device with data of its shapes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

HALVES = (torch.bfloat16, torch.float16)
WORTH = 0.97  # of the usual time: less gained may be the clock's
TOLERANCE = 0.02  # of the largest value; both round a half's products

Call = Callable[[], Tensor]
Clock = Callable[[Call], float]


@dataclass(frozen=True)
class Operand:
    """Size, strides and dtype of a node's input; a free batch is that of the example."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def like(self, device: str | None = None) -> Tensor:
        """An empty tensor of this kind."""
        return torch.empty_strided(self.size, self.stride, dtype=self.dtype, device=device)

    def filled(self) -> Tensor:
        """One with normal random values, on the device of on_device()."""
        return self.like().normal_()


def operand_of(node: Any) -> Operand | None:
    """The operand that a node of the graph makes, if it is a tensor of halves with four axes."""
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    if not isinstance(value, Tensor) or value.dtype not in HALVES or value.ndim != 4:
        return None
    return Operand(tuple(map(_number, value.shape)), tuple(map(_number, value.stride())), value.dtype)


def _number(extent: Any) -> int:
    """An extent, or what it is in the example: asking a symbol for its value would fix it."""
    return extent if isinstance(extent, int) else int(extent.node.hint)


@contextlib.contextmanager
def on_device(device: str) -> Iterator[None]:
    """Tensors are made on `device`, where cuDNN looks for its fastest algorithms, as when packages run."""
    current = torch.cuda.device(device) if device.startswith("cuda") else contextlib.nullcontext()
    cudnn = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False)
    with torch.no_grad(), torch.device(device), current, cudnn:
        yield


Key = TypeVar("Key")


def choose(
    program: ExportedProgram,
    device: str,
    usual: Any,
    key_of: Callable[[fx.Node], Key | None],
    is_faster: Callable[[Key], bool],
    give: Callable[[fx.Graph, fx.Node, Key], None],
) -> tuple[int, int]:
    """Changes the nodes whose operator is `usual` where another way is faster on `device`.

    key_of: what a node computes, None if there is no other way. is_faster: is asked once for each key. give:
    puts the other way in the place of a node. Returns how many nodes were changed, and how many there are.
    """
    known: dict[Key, bool] = {}
    nodes = [node for node in program.graph.nodes if node.target is usual]
    changed = 0
    with on_device(device):
        for node in nodes:
            key = key_of(node)
            if key is None:
                continue
            if key not in known:
                known[key] = is_faster(key)
            if known[key]:
                give(program.graph, node, key)
                changed += 1
    program.graph_module.recompile()
    return changed, len(nodes)


def alike(found: Tensor, expected: Tensor) -> bool:
    """Whether two ways gave the same values, but for rounding; not where one is not finite."""
    largest = expected.abs().max()
    return bool(largest.isfinite()) and bool((found - expected).abs().max() <= TOLERANCE * largest)


def is_sooner(new: Call, usual: Call, clock: Clock | None) -> bool:
    """Whether the new way is done clearly sooner. clock: milliseconds of a call; None: see replayed()."""
    clock = clock or replayed
    return clock(new) < WORTH * clock(usual)


def replayed(call: Call, times: int = 10) -> float:
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
