"""Items of a batch that are given once and stand for several."""

from __future__ import annotations

import torch
from torch import Tensor


def repeat_items(value: Tensor, like: Tensor) -> Tensor:
    """The items of `value` one after the other, until they are as many as those of `like`.

    By index, which says nothing of how free numbers of items relate. In a package readers fetch the items so:
    there is no copy, and no check of indices that are right.
    """
    index = torch.arange(like.shape[0], device=value.device) % value.shape[0]
    repeated: Tensor = torch.ops.aten._unsafe_index(value, [index])
    return repeated
