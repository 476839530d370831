"""The autoencoder of SD1.5 in plain torch, with the names of weights that diffusers has."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from bench.gpu.layers import Downsample, Resnet, Upsample


class VaeAttention(nn.Module):
    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, width, 1e-6)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor) -> Tensor:
        h = self.group_norm(x).flatten(2).transpose(1, 2)[:, None]
        y = functional.scaled_dot_product_attention(self.to_q(h), self.to_k(h), self.to_v(h))
        return x + self.to_out[0](y[:, 0]).transpose(1, 2).unflatten(2, (x.shape[2], -1))


class _VaeLevel(nn.Module):
    def __init__(
        self, inputs: Sequence[int], out: int, groups: int, resize: nn.Module | None, up: bool
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([Resnet(c, out, 0, groups, 1e-6) for c in inputs])
        if resize is not None:
            self.add_module("upsamplers" if up else "downsamplers", nn.ModuleList([resize]))

    def forward(self, x: Tensor) -> Tensor:
        for child in self.children():
            for layer in child.children():
                x = layer(x)
        return x


class _VaeMiddle(nn.Module):
    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([Resnet(width, width, 0, groups, 1e-6) for _ in range(2)])
        self.attentions = nn.ModuleList([VaeAttention(width, groups)])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.resnets[1](self.attentions[0](self.resnets[0](x)))
        return out


class _VaeHalf(nn.Module):
    def __init__(self, channels: Sequence[int], groups: int, up: bool) -> None:
        super().__init__()
        order = list(reversed(channels)) if up else list(channels)
        self.conv_in = nn.Conv2d(4 if up else 3, order[0], 3, padding=1)
        levels = []
        for i, out in enumerate(order):
            before = order[max(0, i - 1)]
            resize: nn.Module | None = None
            if i < len(order) - 1:
                resize = Upsample(out) if up else Downsample(out, padding=0)
            levels.append(_VaeLevel([before, *[out] * (1 + up)], out, groups, resize, up))
        self.add_module("up_blocks" if up else "down_blocks", nn.ModuleList(levels))
        self.mid_block = _VaeMiddle(channels[-1], groups)
        self.conv_norm_out = nn.GroupNorm(groups, order[-1], 1e-6)
        self.conv_out = nn.Conv2d(order[-1], 3 if up else 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        if hasattr(self, "up_blocks"):
            x = self.mid_block(x)
            for block in self.up_blocks:
                x = block(x)
        else:
            for block in self.down_blocks:
                x = block(x)
            x = self.mid_block(x)
        out: Tensor = self.conv_out(functional.silu(self.conv_norm_out(x)))
        return out


class Vae(nn.Module):
    """The autoencoder of SD1.5: pictures -1 .. 1, latents unscaled."""

    def __init__(self, channels: Sequence[int] = (128, 256, 512, 512), groups: int = 32) -> None:
        super().__init__()
        self.encoder = _VaeHalf(channels, groups, up=False)
        self.decoder = _VaeHalf(channels, groups, up=True)
        self.quant_conv = nn.Conv2d(8, 8, 1)
        self.post_quant_conv = nn.Conv2d(4, 4, 1)

    def encode(self, picture: Tensor) -> Tensor:
        """(N, 3, H, W) -> mean of the latents (N, 4, h, w)."""
        mean: Tensor = self.quant_conv(self.encoder(picture)).chunk(2, dim=1)[0]
        return mean

    def decode(self, latents: Tensor) -> Tensor:
        out: Tensor = self.decoder(self.post_quant_conv(latents))
        return out
