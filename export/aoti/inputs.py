"""Inputs of a network in the precision that it computes in."""

from __future__ import annotations

import torch
from torch import Tensor


def cast(value: Tensor, dtype: torch.dtype) -> Tensor:
    """`value` in `dtype`, as a tensor that lies in memory.

    Inductor joins a cast with those who read it: of the slices that attentions read of one input, their keys
    and values, each would be a kernel. A view by strides keeps the cast apart.
    """
    if value.dtype == dtype:
        return value
    made = value.to(dtype)
    return torch.as_strided(made, made.shape, made.stride())
