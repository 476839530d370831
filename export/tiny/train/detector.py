"""Stage 3: the hand detector, on whole pictures at many scales, and on pictures without hands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .. import dataset
from ..models import Detector
from ..scenes.background import random_background
from .augment import colour_jitter
from .common import Trainer, autocast, load_average, seeded
from .distractors import add_bars, add_distractors

SIZE = dataset.DETECTOR
CELL = 8  # pixels
CELLS = SIZE // CELL


@dataclass(frozen=True)
class Targets:
    """What the network should answer: score (N, 24, 24) soft, and at positive cells center, side and left."""

    score: Tensor
    positive: Tensor  # (N, 24, 24) bool
    center: Tensor  # (N, 2, 24, 24)
    side: Tensor  # (N, 24, 24)
    left: Tensor  # (N, 24, 24)


def targets(boxes: Tensor, left: Tensor) -> Targets:
    """Targets of boxes (N, K, 4) pixels, NaN where there is no hand, and left (N, K)."""
    count = len(boxes)
    score = torch.zeros(count, CELLS, CELLS)
    positive = torch.zeros(count, CELLS, CELLS, dtype=torch.bool)
    center, side, lefts = (
        torch.zeros(count, 2, CELLS, CELLS),
        torch.zeros(count, CELLS, CELLS),
        torch.zeros(count, CELLS, CELLS),
    )
    ys, xs = torch.meshgrid(torch.arange(CELLS) + 0.5, torch.arange(CELLS) + 0.5, indexing="ij")
    for n in range(count):
        for box, is_left in zip(boxes[n], left[n], strict=True):
            if box.isnan().any():
                continue
            x, y = (box[0] + box[2]) / 2 / CELL, (box[1] + box[3]) / 2 / CELL
            length = (box[2] - box[0]) / CELL
            i, j = int(y), int(x)
            if not (0 <= i < CELLS and 0 <= j < CELLS):
                continue
            spread = torch.clamp(length * 0.12, min=0.6)
            score[n] = torch.maximum(score[n], torch.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * spread**2)))
            score[n, i, j] = 1.0
            positive[n, i, j] = True
            center[n, :, i, j] = torch.stack([x - j, y - i])
            side[n, i, j] = torch.log(length * CELL / SIZE)
            lefts[n, i, j] = float(is_left)
    return Targets(score, positive, center, side, lefts)


def rescaled(image: Tensor, boxes: Tensor, scale: float, dx: float, dy: float) -> tuple[Tensor, Tensor]:
    """A picture (3, S, S) and boxes, zoomed by `scale` and moved by (dx, dy) of its side; edges reflect."""
    rows = [[1 / scale, 0.0, -2 * dx / scale], [0.0, 1 / scale, -2 * dy / scale]]
    theta = torch.tensor(rows, dtype=torch.float32)
    # Area averaging first, or shrinking would alias.
    source = image[None] if scale > 0.75 else functional.avg_pool2d(image[None], 2)
    grid = functional.affine_grid(theta[None], [1, 3, SIZE, SIZE], align_corners=False)
    moved = functional.grid_sample(source, grid, padding_mode="reflection", align_corners=False)[0]
    shift = torch.tensor([dx, dy, dx, dy], dtype=torch.float32) * SIZE
    return moved, (boxes - SIZE / 2) * scale + SIZE / 2 + shift


def train(work: Path, *, count: int, minutes: float, seed: int = 33) -> None:
    columns = dataset.load(work / "data", 0, count, ("picture", "malformed_picture", "boxes", "lefts"))
    pictures = torch.from_numpy(np.stack([columns["picture"], columns["malformed_picture"]], axis=1))
    boxes, lefts = torch.from_numpy(columns["boxes"]).float(), torch.from_numpy(columns["lefts"])
    torch.manual_seed(seed)
    net = Detector().to(memory_format=torch.channels_last)
    trainer = Trainer(
        "detector",
        work,
        {"detector": net},
        rate=2e-3,
        steps=20000,
        minutes=minutes,
        seed=seed,
        average_decay=0.998,
    )
    generator = seeded(seed + trainer.step)
    rng = np.random.default_rng([seed, trainer.step])

    def example() -> tuple[Tensor, Tensor, Tensor]:
        if rng.random() < 0.12:
            empty = torch.from_numpy(random_background(rng, SIZE, SIZE)).permute(2, 0, 1)
            nothing = torch.full((dataset.MAX_HANDS, 4), float("nan"))
            if rng.random() < 0.8:
                empty = add_distractors(empty, nothing, rng)
            return empty, nothing, torch.zeros(dataset.MAX_HANDS, dtype=torch.bool)
        k, twin = int(rng.integers(len(pictures))), int(rng.integers(2))
        image, box, left = pictures[k, twin].permute(2, 0, 1).float() / 255.0, boxes[k], lefts[k]
        if rng.random() < 0.5:
            image, left = image.flip(2), ~left
            box = torch.stack([SIZE - box[:, 2], box[:, 1], SIZE - box[:, 0], box[:, 3]], dim=1)
        if rng.random() < 0.7:
            # Shrinking shows reflected hands that have no box, so zoom in, or shrink only a little.
            scale = float(np.exp(rng.uniform(np.log(0.8), np.log(1.5))))
            image, box = rescaled(image, box, scale, *rng.uniform(-0.1, 0.1, 2))
        elif rng.random() < 0.6:
            # Small hands: the picture as a tile on a larger background.
            canvas = torch.from_numpy(random_background(rng, SIZE, SIZE)).permute(2, 0, 1)
            side = int(rng.integers(SIZE // 3, SIZE * 3 // 4))
            x, y = (int(v) for v in rng.integers(0, SIZE - side + 1, 2))
            canvas[:, y : y + side, x : x + side] = functional.interpolate(
                image[None], size=(side, side), mode="area"
            )[0]
            image, box = canvas, box * (side / SIZE) + torch.tensor([x, y, x, y])
        if rng.random() < 0.45:
            image = add_distractors(image, box, rng)
        if rng.random() < 0.15:
            image, box = add_bars(image, box, rng)
        return image, box, left

    def loss_of(trainer: Trainer) -> Tensor:
        rows = [example() for _ in range(16)]
        image = colour_jitter(torch.stack([row[0] for row in rows]), generator).to(trainer.device)
        want = targets(torch.stack([row[1] for row in rows]), torch.stack([row[2] for row in rows]))
        with autocast(trainer.device):
            out = net.logits(image.to(memory_format=torch.channels_last))
        out = out.float().cpu()
        probability = torch.sigmoid(out[:, 0])
        # Focal loss of CenterNet (Zhou et al. 2019).
        log_p, log_q = functional.logsigmoid(out[:, 0]), functional.logsigmoid(-out[:, 0])
        peak = want.score >= 1.0
        focal = torch.where(
            peak, -((1 - probability) ** 2) * log_p, -((1 - want.score) ** 4) * probability**2 * log_q
        )
        hands = max(int(want.positive.sum()), 1)
        loss = focal.sum() / hands
        at = want.positive
        if at.any():
            centers = out[:, 1:3].permute(0, 2, 3, 1)[at]
            loss = loss + functional.l1_loss(torch.sigmoid(centers), want.center.permute(0, 2, 3, 1)[at])
            loss = loss + 2.0 * functional.l1_loss(out[:, 3][at], want.side[at])
            loss = loss + functional.binary_cross_entropy_with_logits(out[:, 4][at], want.left[at])
        return loss

    trainer.run(loss_of)


def load(work: Path) -> Detector:
    net = Detector()
    load_average(work, "detector", {"detector": net})
    return net
