"""UNet and ControlNet of SD1.5 and SDXL in plain torch: diffusers' architecture and names."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.gpu.layers import (
    Attention,
    Downsample,
    Embedding,
    GroupNorm,
    Resnet,
    Transformer,
    Upsample,
    both,
    waves,
)


@dataclass(frozen=True)
class Config:
    """channels, heads: per level. depth: transformer layers per level, 0 for none. inputs: of the UNet's
    first convolution. pooled: width of SDXL's extra embedding, 0 for none. linear: see Transformer.
    """

    channels: tuple[int, ...]
    depth: tuple[int, ...]
    heads: tuple[int, ...]
    context: int
    inputs: int = 4
    pooled: int = 0
    linear: bool = False
    layers: int = 2
    groups: int = 32
    hint: tuple[int, ...] = (16, 32, 96, 256)

    @property
    def emb(self) -> int:
        return 4 * self.channels[0]


SD15 = Config((320, 640, 1280, 1280), (1, 1, 1, 0), (8, 8, 8, 8), 768, inputs=9)
SDXL = Config((320, 640, 1280), (0, 2, 10), (5, 10, 20), 2048, pooled=2816, linear=True)
TINY = Config((32, 64), (1, 0), (2, 2), 16, inputs=9, layers=1, groups=8, hint=(8, 8, 16, 16))
TINY_SDXL = Config((32, 64), (0, 2), (2, 4), 16, pooled=56, linear=True, layers=1, groups=8)


class _Block(nn.Module):
    """One level: residual blocks, transformers, and what changes the size."""

    def __init__(self, config: Config, level: int, inputs: Sequence[int], kind: str, resize: bool) -> None:
        super().__init__()
        out, depth = config.channels[level], config.depth[level]
        self.resnets = nn.ModuleList([Resnet(c, out, config.emb, config.groups) for c in inputs])
        if depth:
            self.attentions = nn.ModuleList(_transformer(config, level) for _ in inputs)
        if resize and kind == "down":
            self.downsamplers = nn.ModuleList([Downsample(out)])
        if resize and kind == "up":
            self.upsamplers = nn.ModuleList([Upsample(out)])

    def layer(self, i: int, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        x = self.resnets[i](x, time)
        return self.attentions[i](x, context) if hasattr(self, "attentions") else x


class _Middle(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.channels[-1]
        self.resnets = nn.ModuleList([Resnet(width, width, config.emb, config.groups) for _ in range(2)])
        level = max(i for i, depth in enumerate(config.depth) if depth)
        last = len(config.channels) - 1
        self.attentions = nn.ModuleList([_transformer(config, last, config.depth[level])])

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        x = self.attentions[0](self.resnets[0](x, time), context)
        out: Tensor = self.resnets[1](x, time)
        return out


def _transformer(config: Config, level: int, depth: int = 0) -> Transformer:
    width, heads = config.channels[level], config.heads[level]
    depth = depth or config.depth[level]
    return Transformer(width, heads, config.context, depth, config.linear, config.groups)


class _Encoder(nn.Module):
    """What UNet and ControlNet have in common: the way down and the middle."""

    def __init__(self, config: Config, inputs: int) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.conv_in = nn.Conv2d(inputs, channels[0], 3, padding=1)
        self.time_embedding = Embedding(channels[0], config.emb)
        if config.pooled:
            self.add_embedding = Embedding(config.pooled, config.emb)
        before = (channels[0], *channels)
        self.down_blocks = nn.ModuleList(
            _Block(
                config,
                level,
                [before[level], *[out] * (config.layers - 1)],
                "down",
                resize=level < len(channels) - 1,
            )
            for level, out in enumerate(channels)
        )
        self.mid_block = _Middle(config)

    def down(self, x: Tensor, time: Tensor, context: Tensor) -> list[Tensor]:
        """What enters each layer of the way up, the first one first."""
        states = [x]
        for block in self.down_blocks:
            for i in range(len(block.resnets)):
                x = block.layer(i, x, time, context)
                states.append(x)
            if hasattr(block, "downsamplers"):
                x = block.downsamplers[0](x)
                states.append(x)
        return states

    def embedding(self, timestep: Tensor, pooled: Tensor | None) -> Tensor:
        """(N,), and SDXL's (N, pooled) -> (N, emb)."""
        kind = self.time_embedding.linear_1.weight.dtype
        out: Tensor = self.time_embedding(waves(timestep, self.config.channels[0]).to(kind))
        return out if pooled is None else out + self.add_embedding(pooled)


class UNet(_Encoder):
    def __init__(self, config: Config) -> None:
        super().__init__(config, config.inputs)
        channels, levels = config.channels, len(config.channels)
        skips = [channels[0]]
        for level, out in enumerate(channels):
            skips += [out] * (config.layers + (level < levels - 1))
        self.up_blocks = nn.ModuleList()
        before = channels[-1]
        for level in reversed(range(levels)):
            inputs = []
            for _ in range(config.layers + 1):
                inputs.append(before + skips.pop())
                before = channels[level]
            self.up_blocks.append(_Block(config, level, inputs, "up", resize=level > 0))
        self.conv_norm_out = nn.GroupNorm(config.groups, channels[0], 1e-5)
        self.conv_out = nn.Conv2d(channels[0], 4, 3, padding=1)

    def way_down(self, x: Tensor, time: Tensor, context: Tensor) -> list[Tensor]:
        """What enters the layers of the way up, and the middle."""
        states = self.down(self.conv_in(x), time, context)
        return [*states, self.mid_block(states[-1], time, context)]

    def way_up(self, states: Sequence[Tensor], time: Tensor, context: Tensor) -> Tensor:
        left = list(states)
        x = left.pop()
        for block in self.up_blocks:
            for i in range(len(block.resnets)):
                x = block.layer(i, torch.cat([x, both(left.pop(), x)], dim=1), time, context)
            if hasattr(block, "upsamplers"):
                x = block.upsamplers[0](x)
        out: Tensor = self.conv_out(functional.silu(self.conv_norm_out(x)))
        return out

    def forward(self, x: Tensor, time: Tensor, context: Tensor, residuals: Sequence[Tensor] = ()) -> Tensor:
        """residuals: of a ControlNet, for each state of the way down and the middle."""
        states = self.way_down(x, time, context)
        if residuals:
            states = [both(state, extra) + extra for state, extra in zip(states, residuals, strict=True)]
        return self.way_up(states, time, context)


class HintEmbedding(nn.Module):
    """depth (N, 3, H, W) -> (N, C0, H / 8, W / 8)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, config.hint[0], 3, padding=1)
        blocks = []
        for a, b in pairwise(config.hint):
            blocks += [nn.Conv2d(a, a, 3, padding=1), nn.Conv2d(a, b, 3, padding=1, stride=2)]
        self.blocks = nn.ModuleList(blocks)
        self.conv_out = nn.Conv2d(config.hint[-1], config.channels[0], 3, padding=1)

    def forward(self, depth: Tensor) -> Tensor:
        x = functional.silu(self.conv_in(depth))
        for block in self.blocks:
            x = functional.silu(block(x))
        out: Tensor = self.conv_out(x)
        return out


class ControlNet(_Encoder):
    def __init__(self, config: Config) -> None:
        super().__init__(config, 4)
        channels = config.channels
        self.controlnet_cond_embedding = HintEmbedding(config)
        widths = [channels[0]]
        for level, out in enumerate(channels):
            widths += [out] * (config.layers + (level < len(channels) - 1))
        self.controlnet_down_blocks = nn.ModuleList(nn.Conv2d(width, width, 1) for width in widths)
        self.controlnet_mid_block = nn.Conv2d(channels[-1], channels[-1], 1)

    def forward(self, x: Tensor, time: Tensor, context: Tensor, hint: Tensor, scale: Tensor) -> list[Tensor]:
        """scale: the strength of each item (N,)."""
        states = self.down(self.conv_in(x) + hint, time, context)
        states.append(self.mid_block(states[-1], time, context))
        convs = [*self.controlnet_down_blocks, self.controlnet_mid_block]
        scale = scale[:, None, None, None]
        return [both(conv(state), scale) * scale for conv, state in zip(convs, states, strict=True)]


class Step(nn.Module):
    """One denoising step with the ports of a pack: what stays the same over the steps comes ready-made.

    forward(sample (N,4,h,w), time (N,E), context (N,T,K)[, hint, inpaint, control_scale (N,)]) -> (N,4,h,w)

    All but context and control_scale may have half of the items: that of both halves of a guided batch.
    """

    def __init__(self, config: Config, *, control: bool) -> None:
        super().__init__()
        self.config = config
        self.unet = UNet(config)
        self.controlnet = ControlNet(config) if control else None
        self._networks: list[_Encoder] = [self.unet, *([self.controlnet] if self.controlnet else [])]
        self.width = self.keys = 0  # E and K
        for network in self._networks:
            for module in network.modules():
                if isinstance(module, Resnet):
                    module.span = (self.width, self.width + module.conv1.out_channels)
                    self.width = module.span[1]
                elif isinstance(module, Attention) and module.to_k.in_features != module.to_q.in_features:
                    module.start, self.keys = self.keys, self.keys + 2 * module.to_k.out_features

    def forward(self, sample: Tensor, time: Tensor, context: Tensor, *more: Tensor) -> Tensor:
        if self.controlnet is None:
            plain: Tensor = self.unet(sample, time, context)
            return plain
        hint, inpaint, scale = more
        residuals = self.controlnet(sample, time, context, hint, scale)
        out: Tensor = self.unet(torch.cat([sample, inpaint], dim=1), time, context, residuals)
        return out

    def rewritten(self) -> Step:
        """A copy as `hoirt pack compile` rewrites a pack's step.

        A self-attention has one product for queries, keys and values, a group normalisation two kernels.
        """
        made = copy.deepcopy(self)
        for module in made.modules():
            if isinstance(module, Attention) and module.to_k.in_features == module.to_q.in_features:
                module.join()
            for name, child in module.named_children():
                if isinstance(child, nn.GroupNorm):
                    setattr(module, name, GroupNorm(child))
        return made

    def times(self, timestep: Tensor, pooled: Tensor | None = None) -> Tensor:
        """(S,) -> (S, E)."""
        rows = []
        for network in self._networks:
            emb = functional.silu(network.embedding(timestep, pooled))
            rows += [m.time_emb_proj(emb) for m in network.modules() if isinstance(m, Resnet)]
        return torch.cat(rows, dim=-1)

    def contexts(self, text: Tensor) -> Tensor:
        """(N, T, D) -> (N, T, K)."""
        cross = [
            module
            for network in self._networks
            for module in network.modules()
            if isinstance(module, Attention) and module.to_k.in_features != module.to_q.in_features
        ]
        return torch.cat([module.keys_and_values(text) for module in cross], dim=-1)
