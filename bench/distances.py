"""Frechet and kernel distances of two sets of hands by torchmetrics, in the judge's features."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.judges.network import FEATURES, Judge

Images = Sequence[NDArray[np.uint8]]
_BATCH = 50
SUBSETS = 100


class Features(nn.Module):
    """The judge as torchmetrics wants it: uint8 (N, 3, 128, 128) -> features (N, 128) float64."""

    num_features = FEATURES

    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self.judge = judge

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.judge(images.float() / 255.0)[2]
        return features.double()


def frechet(judge: Judge, real: Images, fake: Images) -> float:
    """Frechet distance of two sets of RGB crops (128, 128, 3), by torchmetrics."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    return float(_filled(FrechetInceptionDistance(feature=Features(judge)), real, fake).compute())


def kernel(judge: Judge, real: Images, fake: Images, seed: int = 0) -> float:
    """Kernel distance: mean of the unbiased cubic MMD over random halves of both sets, by torchmetrics."""
    from torchmetrics.image.kid import KernelInceptionDistance

    half = max(min(len(real), len(fake)) // 2, 2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*save all extracted features")
        metric = KernelInceptionDistance(feature=Features(judge), subsets=SUBSETS, subset_size=half)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return float(_filled(metric, real, fake).compute()[0])


@torch.inference_mode()
def _filled(metric: Any, real: Images, fake: Images) -> Any:
    for crops, is_real in ((real, True), (fake, False)):
        for start in range(0, len(crops), _BATCH):
            batch = torch.from_numpy(np.stack(crops[start : start + _BATCH])).permute(0, 3, 1, 2)
            metric.update(batch, real=is_real)
    return metric
