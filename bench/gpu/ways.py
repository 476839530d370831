"""The ways in which hoirt runs a step: as one package, or in three parts whose first two run side by side."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.gpu.layers import both
from bench.gpu.models import Step
from bench.gpu.packages import Part

OUTPUT = "prediction"


@dataclass(frozen=True)
class Way:
    """streams: 2 runs the ControlNet beside the UNet's way down. autotune: with inductor's max-autotune.

    trials: with the kernels that were faster when the package was made.
    """

    streams: int = 1
    autotune: bool = False
    trials: bool = True

    @property
    def label(self) -> str:
        """The row of the table."""
        told = ", two streams" * (self.streams == 2) + ", max-autotune" * self.autotune
        return "hoirt" + told + ", no trials" * (not self.trials)


class _Down(nn.Module):
    def __init__(self, step: Step) -> None:
        super().__init__()
        self.unet = step.unet

    def forward(self, sample: Tensor, time: Tensor, context: Tensor, inpaint: Tensor) -> list[Tensor]:
        return self.unet.way_down(torch.cat([sample, inpaint], dim=1), time, context)


class _Up(nn.Module):
    def __init__(self, step: Step) -> None:
        super().__init__()
        self.unet = step.unet

    def forward(self, time: Tensor, context: Tensor, *more: Tensor) -> Tensor:
        states, residuals = more[: len(more) // 2], more[len(more) // 2 :]
        sums = [both(a, b) + b for a, b in zip(states, residuals, strict=True)]
        return self.unet.way_up(sums, time, context)


def parts_of(step: Step, inputs: tuple[str, ...], streams: int) -> list[Part]:
    """The parts of a step that takes `inputs`."""
    if streams == 1:
        return [Part(step, inputs, (OUTPUT,))]
    assert step.controlnet is not None
    count = 1 + sum(len(block.resnets) + hasattr(block, "downsamplers") for block in step.unet.down_blocks)
    states = tuple(f"state_{i}" for i in range(count + 1))  # and the middle
    residuals = tuple(f"residual_{i}" for i in range(count + 1))
    return [
        Part(step.controlnet, ("sample", "time", "context", "hint", "control_scale"), residuals, last=False),
        Part(_Down(step), ("sample", "time", "context", "inpaint"), states, last=False),
        Part(_Up(step), ("time", "context", *states, *residuals), (OUTPUT,)),
    ]
