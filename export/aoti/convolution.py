"""Which convolutions of few pixels a GPU runs faster as a product of matrices than by cuDNN.

The lowest level of a UNet has 64 pixels and weights of 30 MB. A convolution's kernel has a block of threads
for some pixels and channels: a dozen blocks, which cannot read the weights as fast as the memory gives them.
Of a matrix of all windows cuBLAS splits the sums, too, and keeps the whole GPU busy.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.nn import functional

from .trials import Clock, Operand, alike, choose, is_sooner, operand_of

USUAL = torch.ops.aten.conv2d.default
FEW = 1024  # pixels of the output, of all items; with more, cuDNN has work for all multiprocessors
CACHED = 128 << 20  # bytes of weights that no cache holds


@dataclass(frozen=True)
class Convolution:
    """One of 3 x 3 with a border as wide as keeps the size, but for the stride."""

    input: Operand
    weight: Operand
    stride: int

    @property
    def pixels(self) -> int:
        batch, _, height, width = self.input.size
        return batch * -(-height // self.stride) * -(-width // self.stride)

    def usual(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional.conv2d(x, weight, None, self.stride, 1)


def choose_convolutions(program: ExportedProgram, device: str, clock: Clock | None = None) -> tuple[int, int]:
    """Turns the convolutions of a program into products where that is faster on `device`.

    Tried are those of 3 x 3 in half precision with channels last and few pixels. clock: see is_sooner().
    Returns how many are products now, and how many there are.
    """
    return choose(program, device, USUAL, _convolution, lambda found: _is_faster(found, clock), _give)


def padded(x: Tensor) -> Tensor:
    """x (N, C, H, W) with a border of zeros, one pixel wide."""
    return functional.pad(x, (1, 1, 1, 1))


def windows(x: Tensor, stride: int) -> Tensor:
    """The windows of a padded x as a matrix: (N * height * width, 9 * C)."""
    cut = x.unfold(2, 3, stride).unfold(3, 3, stride)
    return cut.permute(0, 2, 3, 4, 5, 1).reshape(-1, 9 * x.shape[1])


def matrix(weight: Tensor) -> Tensor:
    """A weight (O, C, 3, 3) as (9 * C, O); a view, if its channels are last."""
    return weight.permute(0, 2, 3, 1).reshape(weight.shape[0], -1).t()


def _convolution(node: fx.Node) -> Convolution | None:
    """What a node computes, if it can be a product of matrices and is small enough for one."""
    usual = (None, None, None, [1, 1], [0, 0], [1, 1], 1)
    x, weight, _, stride, padding, dilation, groups = (*node.args, *usual[len(node.args) :])
    given, kernel = operand_of(x), operand_of(weight)
    if given is None or kernel is None or kernel.size[2:] != (3, 3) or groups != 1:
        return None
    steps = {_pair(stride), _pair(padding), _pair(dilation)}
    square = steps <= {(1, 1), (2, 2)} and _pair(padding) == _pair(dilation) == (1, 1)
    channels_last = given.stride[1] == kernel.stride[1] == 1
    if not (square and channels_last):
        return None
    found = Convolution(given, kernel, _pair(stride)[0])
    return found if found.pixels <= FEW else None


def _pair(extents: list[int]) -> tuple[int, int]:
    return (extents[0], extents[-1])


def _is_faster(convolution: Convolution, clock: Clock | None) -> bool:
    """Whether the product is alike in values, and sooner, with weights that lie in no cache."""
    x, stride = convolution.input.filled(), convolution.stride
    wide = padded(x)  # in a package that is done where x is made, or with the windows
    bytes_ = 2 * math.prod(convolution.weight.size)
    weights = [convolution.weight.filled() for _ in range(min(8, -(-CACHED // bytes_)))]
    expected = convolution.usual(x, weights[0]).permute(0, 2, 3, 1).flatten(0, 2)
    if not alike(windows(wide, stride) @ matrix(weights[0]), expected):
        return False
    turns, again = itertools.cycle(weights), itertools.cycle(weights)
    return is_sooner(
        lambda: windows(wide, stride) @ matrix(next(turns)),
        lambda: convolution.usual(x, next(again)),
        clock,
    )


def _give(graph: fx.Graph, node: fx.Node, convolution: Convolution) -> None:
    """A product in the place of a convolution: padded(), windows() and matrix() as nodes."""
    x, weight, bias = (*node.args[:3], None)[:3]
    (_, channels, height, width), stride = convolution.input.size, convolution.stride
    out = convolution.weight.size[0]
    aten = torch.ops.aten
    with graph.inserting_before(node):
        wide = graph.call_function(aten.constant_pad_nd.default, (x, [1, 1, 1, 1]))
        cut = graph.call_function(aten.unfold.default, (wide, 2, 3, stride))
        cut = graph.call_function(aten.unfold.default, (cut, 3, 3, stride))
        cut = graph.call_function(aten.permute.default, (cut, [0, 2, 3, 4, 5, 1]))
        rows = graph.call_function(aten.reshape.default, (cut, [-1, 9 * channels]))
        last = graph.call_function(aten.permute.default, (weight, [0, 2, 3, 1]))
        columns = graph.call_function(aten.reshape.default, (last, [out, 9 * channels]))
        product = graph.call_function(aten.linear.default, (rows, columns, bias))
        extents = [-1, -(-height // stride), -(-width // stride), out]
        shaped = graph.call_function(aten.reshape.default, (product, extents))
        made = graph.call_function(aten.permute.default, (shaped, [0, 3, 1, 2]))
    made.meta.update(node.meta)
    node.replace_all_uses_with(made)
    graph.erase_node(node)
