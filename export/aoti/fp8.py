"""Linear layers in float8 (e4m3): weights scaled per output, activations per row when they are computed.

The product is torch._scaled_mm, which multiplies on the tensor cores from compute capability 8.9 on.
"""

from __future__ import annotations

import torch
from torch import Tensor

KIND = torch.float8_e4m3fn
LARGEST = torch.finfo(KIND).max  # 448
ALIGNMENT = 16  # of both sides of the weight, as torch._scaled_mm wants them


def fits(weight: Tensor) -> bool:
    """Whether a weight (K, N) can be multiplied in float8."""
    return weight.ndim == 2 and all(side % ALIGNMENT == 0 for side in weight.shape)


def quantised(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A weight (K, N) as float8 (K, N), whose columns lie behind one another, and its scales (1, N)."""
    values = weight.float()
    scale = (values.abs().amax(dim=0, keepdim=True) / LARGEST).clamp(min=1e-12)
    return (values / scale).t().contiguous().to(KIND).t(), scale


def multiply(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """x (..., K) times a quantised weight, in the dtype of x."""
    rows = x.reshape(-1, x.shape[-1])
    largest = rows.abs().amax(dim=1, keepdim=True).float()
    row_scale = (largest / LARGEST).clamp(min=1e-12)
    narrow = (rows.float() / row_scale).clamp(-LARGEST, LARGEST).to(KIND)
    product = torch._scaled_mm(narrow, weight, row_scale, scale, out_dtype=torch.bfloat16)
    return product.reshape(*x.shape[:-1], weight.shape[1]).to(x.dtype)
