"""Stage 2: the image-to-hand-mesh regressor, on well-formed and malformed crops alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .. import dataset
from ..models import MeshRegressor, project
from .augment import colour_jitter
from .common import Trainer, autocast, batches, load_average, seeded

COLUMNS = (
    "image",
    "malformed",
    "region",
    "malformed_region",
    "keypoints",
    "joints",
    "rotations",
    "shape",
    "left",
)


class HandCrops:
    """Crops as the regressor sees them: left hands mirrored, so that every hand is a right one."""

    def __init__(self, data: Path, first: int, count: int) -> None:
        columns = dataset.load(data, first, count, COLUMNS)
        left = torch.from_numpy(columns["left"])
        self.images = torch.from_numpy(np.stack([columns["image"], columns["malformed"]], axis=1))
        self.regions = torch.from_numpy(np.stack([columns["region"], columns["malformed_region"]], axis=1))
        self.images[left] = self.images[left].flip(3)
        self.regions[left] = self.regions[left].flip(3)
        self.keypoints = torch.from_numpy(columns["keypoints"]).float()
        self.keypoints[left, :, 0] = dataset.CROP - self.keypoints[left, :, 0]
        self.joints = torch.from_numpy(columns["joints"]).float()
        self.joints[left, :, 0] *= -1
        self.rotations = torch.from_numpy(columns["rotations"]).float()
        self.shape = torch.from_numpy(columns["shape"]).float()

    def __len__(self) -> int:
        return len(self.images)


def train(work: Path, *, count: int, minutes: float, seed: int = 22) -> None:
    """Pose, shape, camera through rotations, 3-D and projected keypoints; hand region by cross entropy."""
    crops = HandCrops(work / "data", 0, count)
    torch.manual_seed(seed)
    net = MeshRegressor().to(memory_format=torch.channels_last)
    trainer = Trainer(
        "mesh", work, {"mesh": net}, rate=2e-3, steps=40000, minutes=minutes, seed=seed, average_decay=0.998
    )
    generator = seeded(seed + trainer.step)
    order = batches(len(crops), 32, generator)

    def loss_of(trainer: Trainer) -> Tensor:
        pick = next(order)
        twin = torch.randint(2, (len(pick),), generator=generator)
        image = colour_jitter(crops.images[pick, twin].permute(0, 3, 1, 2).float() / 255.0, generator).to(
            trainer.device
        )
        region = crops.regions[pick, twin].float().to(trainer.device)
        with autocast(trainer.device):
            rotations, shape, camera, logits = net.parameters_of(image.to(memory_format=torch.channels_last))
        rotations, shape, camera = rotations.float(), shape.float(), camera.float()
        _, keypoints = net.hand(rotations, shape)
        wanted = {
            key: getattr(crops, key)[pick].to(trainer.device)
            for key in ("rotations", "shape", "keypoints", "joints")
        }
        relative = keypoints - keypoints[:, :1]
        loss = 2.0 * (rotations - wanted["rotations"]).abs().mean()
        loss = loss + 20.0 * (relative - wanted["joints"]).abs().mean()
        loss = loss + 0.05 * (project(keypoints, camera) - wanted["keypoints"]).abs().clamp(max=60.0).mean()
        loss = loss + 0.02 * (shape - wanted["shape"]).abs().mean()
        coarse = functional.avg_pool2d(region.unsqueeze(1), 4)[:, 0]
        return loss + 0.5 * functional.binary_cross_entropy_with_logits(logits.float(), coarse)

    trainer.run(loss_of)


@torch.no_grad()
def pixel_error(net: MeshRegressor, crops: HandCrops, twin: int) -> float:
    """Mean 2-D keypoint error in crop pixels; twin 0: well-formed, 1: malformed."""
    errors = []
    for start in range(0, len(crops), 64):
        part = slice(start, start + 64)
        image = crops.images[part, twin].permute(0, 3, 1, 2).float() / 255.0
        rotations, shape, camera, _ = net.parameters_of(image)
        _, keypoints = net.hand(rotations, shape)
        errors.append((project(keypoints, camera) - crops.keypoints[part]).norm(dim=-1).mean(dim=1))
    return float(torch.cat(errors).mean())


def load(work: Path) -> MeshRegressor:
    net = MeshRegressor()
    load_average(work, "mesh", {"mesh": net})
    return net
