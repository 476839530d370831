"""HRNet-W64-C, the backbone of MeshGraphormer, with the parameter names of the published weights.

Wang et al., Deep High-Resolution Representation Learning for Visual Recognition (2020), the classification
network. timm has the same network under the same names, but importing timm needs torchvision, whose common
builds do not load beside a torch for the CPU; so these are our own modules, and timm is the oracle of a test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

_EXPANSION = 4  # a bottleneck's outputs over its inner channels


@dataclass(frozen=True)
class HRNetSize:
    """Extents of the network; the defaults are those of HRNet-W64-C.

    stem: channels of the stem and inner channels of the first bottlenecks; width: channels of the finest
    branch, doubled from branch to branch; modules: exchange units in stages 2, 3, 4; blocks: residual blocks
    per branch and unit; head: inner channels of the finest branch's last bottleneck, doubled likewise;
    features: channels of the global feature.
    """

    stem: int = 64
    width: int = 64
    modules: tuple[int, int, int] = (1, 4, 3)
    blocks: int = 4
    head: int = 32
    features: int = 2048

    @property
    def grid(self) -> int:
        """Channels of the grid feature."""
        return self.head * 8 * _EXPANSION


class HRNet(nn.Module):
    """image (N, 3, 32 h, 32 w), normalised -> grid feature (N, grid, h, w), global feature (N, features).

    The grid feature is taken before `final_layer`, the global one is the mean after it.
    """

    def __init__(self, size: HRNetSize) -> None:
        super().__init__()
        stem = size.stem
        self.conv1 = nn.Conv2d(3, stem, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.conv2 = nn.Conv2d(stem, stem, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU()
        first = stem * _EXPANSION
        self.layer1 = nn.Sequential(Bottleneck(stem, stem), *(Bottleneck(first, stem) for _ in range(3)))
        width = [size.width * 2**branch for branch in range(4)]
        self.transition1 = _transition([first], width[:2])
        self.stage2 = _stage(width[:2], size.modules[0], size.blocks)
        self.transition2 = _transition(width[:2], width[:3])
        self.stage3 = _stage(width[:3], size.modules[1], size.blocks)
        self.transition3 = _transition(width[:3], width)
        self.stage4 = _stage(width, size.modules[2], size.blocks)

        inner = [size.head * 2**branch for branch in range(4)]
        outer = [channels * _EXPANSION for channels in inner]
        self.incre_modules = nn.ModuleList(
            nn.Sequential(Bottleneck(*channels)) for channels in zip(width, inner, strict=True)
        )
        self.downsamp_modules = nn.ModuleList(
            _convolution(outer[branch], outer[branch + 1], 3, stride=2, bias=True) for branch in range(3)
        )
        self.final_layer = _convolution(outer[3], size.features, 1, bias=True)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = self.relu(self.bn1(self.conv1(image)))
        x = self.relu(self.bn2(self.conv2(x)))
        branches = [self.layer1(x)]
        for transition, stage in (
            (self.transition1, self.stage2),
            (self.transition2, self.stage3),
            (self.transition3, self.stage4),
        ):
            # The branch that a stage adds grows out of the coarsest one before.
            more = [*branches, *branches[-1:] * (len(transition) - len(branches))]
            branches = stage([step(y) for step, y in zip(transition, more, strict=True)])
        grid = self.incre_modules[0](branches[0])
        for down, grow, y in zip(self.downsamp_modules, self.incre_modules[1:], branches[1:], strict=True):
            grid = grow(y) + down(grid)
        return grid, self.final_layer(grid).mean(dim=(2, 3))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a residual, `channels` in and out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        out: Tensor = self.relu(self.bn2(self.conv2(y)) + x)
        return out


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 convolutions with `inner` channels between and 4 times as many at the end."""

    def __init__(self, inputs: int, inner: int) -> None:
        super().__init__()
        outputs = inner * _EXPANSION
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.downsample = (
            nn.Identity() if inputs == outputs else _convolution(inputs, outputs, 1, activation=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        out: Tensor = self.relu(self.bn3(self.conv3(y)) + self.downsample(x))
        return out


class Exchange(nn.Module):
    """One unit: residual blocks on every branch, then every branch receives the sum of all of them."""

    def __init__(self, width: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(channels) for _ in range(blocks))) for channels in width
        )
        count = range(len(width))
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_fuse(width, source, target) for source in count) for target in count
        )
        self.relu = nn.ReLU()

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        x = [branch(y) for branch, y in zip(self.branches, x, strict=True)]
        fused = []
        for steps in self.fuse_layers:
            total = steps[0](x[0])
            for step, y in zip(steps[1:], x[1:], strict=True):
                total = total + step(y)
            fused.append(self.relu(total))
        return fused


def _convolution(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, activation: bool = True, bias: bool = False
) -> nn.Sequential:
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=bias), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *([nn.ReLU()] if activation else []))


def _fuse(width: Sequence[int], source: int, target: int) -> nn.Module:
    """The way from branch `source` to branch `target`: upsampling, nothing, or strided convolutions."""
    if source == target:
        return nn.Identity()
    if source > target:
        layers = _convolution(width[source], width[target], 1, activation=False)
        return layers.append(nn.Upsample(scale_factor=2 ** (source - target), mode="nearest"))
    steps = target - source
    channels = [width[source]] * steps + [width[target]]
    return nn.Sequential(
        *(
            _convolution(channels[k], channels[k + 1], 3, stride=2, activation=k + 1 < steps)
            for k in range(steps)
        )
    )


def _transition(before: Sequence[int], after: Sequence[int]) -> nn.ModuleList:
    """What brings the branches to the widths of the next stage, and adds one."""
    steps: list[nn.Module] = [
        nn.Identity() if a == b else _convolution(a, b, 3) for a, b in zip(before, after, strict=False)
    ]
    steps.append(nn.Sequential(_convolution(before[-1], after[-1], 3, stride=2)))
    return nn.ModuleList(steps)


def _stage(width: Sequence[int], modules: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(Exchange(width, blocks) for _ in range(modules)))
