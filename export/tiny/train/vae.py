"""Stage 1: the autoencoder, on patches of well-formed and malformed crops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .. import dataset
from ..models import make_vae
from .common import Trainer, autocast, load_average, seeded

PATCH = (
    64  # pixels; the network is convolutional, so patches teach it as well as whole crops and cost a quarter
)


def _edges(image: Tensor) -> tuple[Tensor, Tensor]:
    return image[..., 1:] - image[..., :-1], image[..., 1:, :] - image[..., :-1, :]


def train(work: Path, *, count: int, minutes: float, seed: int = 11) -> None:
    """Trains on the crops of seeds 0..count: L1 on colours, tints and edges, and a small KL term."""
    columns = dataset.load(work / "data", 0, count, ("image", "malformed"))
    images = torch.from_numpy(np.concatenate([columns["image"], columns["malformed"]]))
    torch.manual_seed(seed)
    vae = make_vae().to(memory_format=torch.channels_last)
    trainer = Trainer(
        "vae", work, {"vae": vae}, rate=1.5e-3, steps=20000, minutes=minutes, seed=seed, average_decay=0.998
    )
    generator = seeded(seed + trainer.step)

    def loss_of(trainer: Trainer) -> Tensor:
        # Group norms see whole crops in use, so the last part of the training shows whole crops.
        patch = PATCH if trainer.share < 0.85 else dataset.CROP
        size = 16 if patch == PATCH else 6
        pick = torch.randint(len(images), (size,), generator=generator)
        y, x = (int(torch.randint(dataset.CROP - patch + 1, (1,), generator=generator)) for _ in range(2))
        batch = (
            images[pick][:, y : y + patch, x : x + patch].permute(0, 3, 1, 2).float().to(trainer.device)
            / 127.5
            - 1.0
        )
        batch = batch.to(memory_format=torch.channels_last)
        with autocast(trainer.device):
            posterior = vae.encode(batch).latent_dist
            decoded = vae.decode(posterior.sample()).sample.float()
        error = decoded - batch
        # Grey is easy and colour is not: without terms of its own, all four channels are spent on brightness
        # and warmth, and the third axis, green against magenta, is lost. So it has a weight, and a channel
        # that must carry it.
        tint = functional.avg_pool2d(error - error.mean(dim=1, keepdim=True), 4)
        green = functional.avg_pool2d(batch[:, 1] - (batch[:, 0] + batch[:, 2]) / 2.0, 4)
        loss = error.abs().mean() + 3.0 * tint.abs().mean()
        loss = loss + (posterior.mean[:, 0].float() - 4.0 * green).abs().mean()
        loss = loss + 0.7 * sum(
            (a - b).abs().mean() for a, b in zip(_edges(decoded), _edges(batch), strict=True)
        )
        return loss + 3e-8 * posterior.kl().float().mean() / (patch / 64) ** 2

    trainer.run(loss_of)


@torch.no_grad()
def encode_all(vae: nn.Module, images: Tensor, device: torch.device, batch: int = 32) -> Tensor:
    """Unscaled latent means (N, 4, 32, 32) float16 of images (N, 128, 128, 3) uint8."""
    out = []
    for start in range(0, len(images), batch):
        part = images[start : start + batch].permute(0, 3, 1, 2).float().to(device) / 127.5 - 1.0
        with autocast(device):
            out.append(
                vae.encode(part.to(memory_format=torch.channels_last)).latent_dist.mean.float().cpu().half()
            )
    return torch.cat(out)


def load(work: Path) -> nn.Module:
    vae = make_vae()
    load_average(work, "vae", {"vae": vae})
    return vae
