"""Group normalisation in two kernels, for networks in half precision whose pixels lie channels last.

Inductor splits the sums of a few large groups again and again, into three kernels before the one that
normalises. Here each group is cut into chunks of pixels once; one kernel sums the chunks, and up to four sums
are added where they are used. `settings.py` keeps inductor from splitting them further.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

BLOCK = 8192  # elements that one block of threads sums quickly
INLINE = 4  # chunks whose sums inductor adds in the kernel that needs them


def chunks_of(pixels: int, elements: int) -> int:
    """Into how many chunks of one size a group of so many pixels and elements is cut; 0: no good number."""
    if elements <= BLOCK:
        return 1
    if elements <= INLINE * 2 * BLOCK and pixels % INLINE == 0:
        return INLINE
    least = -(-elements // BLOCK)
    return next((count for count in range(least, 4 * least + 1) if pixels % count == 0), 0)


def group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """torch's group_norm: x (N, C, ...), weight and bias (C,).

    The mean and the mean of squares accumulate in float32, so the variance errs by about 1e-7 of the squared
    mean. That is less than the result's rounding up to a mean of 30 standard deviations in float16 and 100 in
    bfloat16. (One of a group's values, subtracted first, would lift that; in a step of SD1.5 it moves a sixth
    more memory.) Other layouts and precisions take torch's way.
    """
    batch, channels, *extents = x.shape
    pixels, wide = math.prod(extents), channels // groups
    chunks = chunks_of(pixels, pixels * wide)
    halves = x.dtype in (torch.bfloat16, torch.float16)
    if not (halves and chunks and x.stride(1) == 1):
        return functional.group_norm(x, groups, weight, bias, epsilon)
    rows = x.movedim(1, -1).reshape(batch, chunks, pixels // chunks, groups, wide).float()
    column = (1, channels, *[1] * len(extents))

    def mean_of(values: Tensor) -> Tensor:
        """Of each group, in the shape of x: what is made of more sums before that, inductor would store."""
        made = values.sum((2, 4)).sum(1) * (1.0 / (pixels * wide))
        return made[:, :, None].expand(batch, groups, wide).reshape(batch, *column[1:]).expand_as(x)

    mean = mean_of(rows)
    variance = (mean_of(rows * rows) - mean * mean).clamp(min=0)
    normed = (x.float() - mean) * (variance + epsilon).rsqrt()
    return (normed * weight.reshape(column) + bias.reshape(column)).to(x.dtype)
