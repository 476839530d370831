"""The layers of Stable Diffusion's networks in plain torch, with the names of weights that diffusers has.

What does not change over the steps comes from outside: each residual block and each cross-attention takes its
own slice of `time` (N, E) and `context` (N, T, K), which hoirt computes once before its loop.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.aoti.group_norm import group_norm
from export.aoti.items import repeat_items


def both(x: Tensor, like: Tensor) -> Tensor:
    """`x`, doubled if it has half of the items: both halves of a guided batch are alike in it."""
    return x if x.shape[0] == like.shape[0] else repeat_items(x, like)


class Resnet(nn.Module):
    """Residual block; `span` is its part of `time`, set by what holds it. emb 0: none, as in a VAE."""

    def __init__(self, channels: int, out: int, emb: int, groups: int = 32, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels, eps)
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        if emb:
            self.time_emb_proj = nn.Linear(emb, out)
        self.norm2 = nn.GroupNorm(groups, out, eps)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(channels, out, 1) if channels != out else None
        self.span = (0, 0)

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        h = self.conv1(functional.silu(self.norm1(x)))
        if time is not None:
            h = h + both(time[:, self.span[0] : self.span[1], None, None], h)
        h = self.conv2(functional.silu(self.norm2(h)))
        skip: Tensor = x if self.conv_shortcut is None else self.conv_shortcut(x)
        return skip + h


class GroupNorm(nn.Module):
    """A group normalisation as `hoirt pack compile` computes it."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.groups, self.eps = norm.num_groups, norm.eps
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Tensor) -> Tensor:
        return group_norm(x, self.groups, self.weight, self.bias, self.eps)


class Attention(nn.Module):
    """Attention over the states, or over a slice of `context`, which has its keys and values ready."""

    def __init__(self, width: int, heads: int, context: int = 0) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context or width, width, bias=False)
        self.to_v = nn.Linear(context or width, width, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        self.start = 0  # of its keys in `context`
        self.joined: nn.Linear | None = None  # to_q, to_k and to_v side by side

    def keys_and_values(self, states: Tensor) -> Tensor:
        return torch.cat([self.to_k(states), self.to_v(states)], dim=-1)

    def join(self) -> None:
        """Self-attention's three products become one, as `hoirt pack compile` makes them."""
        layers = (self.to_q, self.to_k, self.to_v)
        weight = torch.cat([layer.weight for layer in layers])
        self.joined = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
        self.joined.weight = nn.Parameter(weight, requires_grad=False)
        del self.to_q, self.to_k, self.to_v

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        width = x.shape[-1]
        if self.joined is not None:
            q, k, v = self.joined(x).chunk(3, dim=-1)
        elif context is None:
            q, k, v = self.to_q(x), self.to_k(x), self.to_v(x)
        else:
            q = both(self.to_q(x), context)
            k, v = (context[..., at : at + width] for at in (self.start, self.start + width))

        def split(y: Tensor) -> Tensor:
            return y.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        y = functional.scaled_dot_product_attention(split(q), split(k), split(v))
        out: Tensor = self.to_out[0](y.transpose(1, 2).flatten(2))
        return out


class GatedProjection(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        x, gate = self.proj(x).chunk(2, dim=-1)
        return x * functional.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        inner = 4 * width
        self.net = nn.ModuleList([GatedProjection(width, inner), nn.Identity(), nn.Linear(inner, width)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.net:
            x = layer(x)
        return x


class TransformerBlock(nn.Module):
    def __init__(self, width: int, heads: int, context: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn1 = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.attn2 = Attention(width, heads, context)
        self.norm3 = nn.LayerNorm(width)
        self.ff = FeedForward(width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        x = both(x, context) + self.attn2(self.norm2(x), context)
        out: Tensor = x + self.ff(self.norm3(x))
        return out


class Transformer(nn.Module):
    """Transformer over pixels. linear: SDXL's projections are matrices, SD1.5's convolutions of 1 x 1."""

    def __init__(
        self, width: int, heads: int, context: int, depth: int, linear: bool, groups: int = 32
    ) -> None:
        super().__init__()
        self.linear = linear
        self.norm = nn.GroupNorm(groups, width, 1e-6)
        self.proj_in = nn.Linear(width, width) if linear else nn.Conv2d(width, width, 1)
        blocks = [TransformerBlock(width, heads, context) for _ in range(depth)]
        self.transformer_blocks = nn.ModuleList(blocks)
        self.proj_out = nn.Linear(width, width) if linear else nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        height = x.shape[2]
        h = self.norm(x)
        h = h if self.linear else self.proj_in(h)
        h = h.flatten(2).transpose(1, 2)
        h = self.proj_in(h) if self.linear else h
        for block in self.transformer_blocks:
            h = block(h, context)
        h = self.proj_out(h) if self.linear else h
        h = h.transpose(1, 2).unflatten(2, (height, -1))
        return both(x, h) + (h if self.linear else self.proj_out(h))


class Downsample(nn.Module):
    """padding 0: as in a VAE, which pads below and on the right only."""

    def __init__(self, channels: int, padding: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x if self.conv.padding[0] else functional.pad(x, (0, 1, 0, 1)))
        return out


class Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


class Embedding(nn.Module):
    """Two matrices with SiLU between them."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(width, out)
        self.linear_2 = nn.Linear(out, out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear_2(functional.silu(self.linear_1(x)))
        return out


def waves(values: Tensor, width: int) -> Tensor:
    """(N,) -> (N, width): cosines, then sines, of the frequencies 1 to 1e-4."""
    half = width // 2
    rates = torch.exp(-math.log(10000.0) * torch.arange(half, device=values.device) / half)
    angles = values.float()[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
