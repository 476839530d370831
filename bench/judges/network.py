"""The judge: is the hand in a crop malformed, where are its joints, and features for Frechet distances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

CROP = 128
FEATURES = 128
WEIGHTS = Path(__file__).with_name("judge.safetensors")


class _Block(nn.Module):
    """Pre-activation bottleneck with a depthwise 5 x 5 convolution: unlike the pack's networks on purpose."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            nn.Conv2d(channels, channels, 5, padding=2, groups=channels, bias=False),
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, 2 * channels, 1),
            nn.GELU(),
            nn.Conv2d(2 * channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(x)


def _down(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.GELU())


class Judge(nn.Module):
    """A crop (N, 3, 128, 128) RGB in 0..1, left hands mirrored, to a logit, joints and features.

    logit (N,); joints (N, 21, 2) in pixels; features (N, 128).
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _down(3, 24),
            _down(24, 48),
            _Block(48),
            _down(48, 96),
            _Block(96),
            _Block(96),
            _down(96, 160),
            _Block(160),
            _Block(160),
        )
        self.squeeze = nn.Sequential(
            nn.Conv2d(160, 24, 1), nn.GELU(), nn.Flatten(), nn.Linear(24 * 64, FEATURES), nn.GELU()
        )
        self.verdict = nn.Linear(FEATURES, 1)
        self.joints = nn.Sequential(nn.Linear(FEATURES, 128), nn.GELU(), nn.Linear(128, 42))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        deep = self.body(image * 2.0 - 1.0)
        features = self.squeeze(deep)
        joints = (torch.tanh(self.joints(features)) * 0.75 + 0.5).view(-1, 21, 2) * CROP
        return self.verdict(features)[:, 0], joints, features


def load() -> Judge:
    """The judge with its committed weights, in evaluation mode."""
    from safetensors.torch import load_file

    judge = Judge()
    judge.load_state_dict(
        {
            key: value.float() if value.is_floating_point() else value
            for key, value in load_file(WEIGHTS).items()
        }
    )
    return judge.eval()


def frechet_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Frechet distance between normal fits of two feature sets (N, D) and (M, D) (Heusel et al. 2017)."""
    from scipy.linalg import sqrtm

    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # A small ridge keeps the root real where there are fewer samples than features.
    ridge = 1e-6 * np.eye(len(cov_a))
    root = sqrtm((cov_a + ridge) @ (cov_b + ridge))
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a + cov_b - 2.0 * np.real(root)))
