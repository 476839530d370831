"""Augmentation of training pictures."""

import torch
from torch import Tensor


def colour_jitter(images: Tensor, generator: torch.Generator) -> Tensor:
    """Random gain, offset and noise on (N, 3, H, W) in 0..1, each picture its own."""
    count = len(images)
    gain = 1.0 + 0.15 * torch.randn(count, 3, 1, 1, generator=generator) * 0.5
    offset = 0.05 * torch.randn(count, 1, 1, 1, generator=generator)
    strength = 0.02 * torch.rand(count, 1, 1, 1, generator=generator)
    noise = torch.randn(images.shape, generator=generator) * strength
    return (images * gain + offset + noise).clamp(0.0, 1.0)
