"""Trains the judge on pictures of seeds 3,000,000.. and writes bench/judges/judge.safetensors.

python -m bench.judges.train
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from bench.judges.network import WEIGHTS, Judge
from export.tiny import dataset
from export.tiny.train.augment import colour_jitter
from export.tiny.train.common import Trainer, autocast, batches, seeded
from export.tiny.train.mesh import HandCrops

FIRST = 3_000_000
HELD_OUT = 500  # hands, the last of the range, to choose the verdict's threshold


def _blurred(images: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the pictures a little soft: a repaired hand must be judged by its shape, not its sharpness."""
    soft = functional.avg_pool2d(functional.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    amount = torch.rand(len(images), 1, 1, 1, generator=generator)
    amount[torch.rand(len(images), generator=generator) < 0.4] = 0.0
    return images + amount * (soft - images)


def _shifted(images: Tensor, keypoints: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random zoom, turn and shift of each picture (N, 3, 128, 128) with its keypoints (N, 21, 2)."""
    count, size = len(images), dataset.CROP
    angle = 0.25 * torch.randn(count, generator=generator)
    zoom = torch.exp(0.07 * torch.randn(count, generator=generator))
    move = 0.05 * torch.randn(count, 2, generator=generator)
    turn = torch.stack([torch.cos(angle), -torch.sin(angle), torch.sin(angle), torch.cos(angle)], 1).view(
        -1, 2, 2
    )
    theta = torch.cat([turn * zoom.view(-1, 1, 1), move.unsqueeze(2)], dim=2)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    unit = keypoints / size * 2.0 - 1.0 - move.unsqueeze(1)
    unit = torch.linalg.solve(turn * zoom.view(-1, 1, 1), unit.transpose(1, 2)).transpose(1, 2)
    return moved, (unit + 1.0) / 2.0 * size


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path(".train"))
    parser.add_argument("--count", type=int, default=8000, help="pictures")
    parser.add_argument("--minutes", type=float, default=95.0)
    parser.add_argument("--threads", type=int, default=None)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    dataset.make(FIRST, args.count, args.work / "data")
    crops = HandCrops(args.work / "data", FIRST, args.count)
    torch.manual_seed(777)
    judge = Judge().to(memory_format=torch.channels_last)
    trainer = Trainer(
        "judge",
        args.work,
        {"judge": judge},
        rate=2e-3,
        steps=10**6,
        minutes=args.minutes,
        seed=777,
        average_decay=0.998,
    )
    generator = seeded(777 + trainer.step)
    training = len(crops) - HELD_OUT
    order = batches(training, 16, generator)

    def loss_of(trainer: Trainer) -> Tensor:
        pick = next(order)
        # Both twins of a hand in every batch, so that only the defect tells them apart.
        image = torch.cat([crops.images[pick, 0], crops.images[pick, 1]]).permute(0, 3, 1, 2).float() / 255.0
        image, keypoints = _shifted(image, crops.keypoints[pick].repeat(2, 1, 1), generator)
        image = colour_jitter(_blurred(image, generator), generator).to(trainer.device)
        malformed = torch.cat([torch.zeros(len(pick)), torch.ones(len(pick))]).to(trainer.device)
        with autocast(trainer.device):
            logit, joints, _ = judge(image.to(memory_format=torch.channels_last))
        loss = functional.binary_cross_entropy_with_logits(logit.float(), malformed)
        return loss + 0.04 * (joints.float() - keypoints.to(trainer.device)).abs().clamp(max=60.0).mean()

    trainer.run(loss_of)
    average = trainer.averages["judge"].cpu().eval()
    with torch.no_grad():
        held = crops.images[training:].float() / 255.0
        logits = [average(held[:, twin].permute(0, 3, 1, 2))[0] for twin in (0, 1)]
    # The verdict's threshold: 4 % of well-formed hands are flagged; folded into the bias, so that it is zero.
    threshold = float(torch.quantile(logits[0], 0.96))
    average.verdict.bias.data -= threshold
    caught = float((logits[1] > threshold).float().mean())
    print(
        f"held out: {caught:.1%} of malformed hands flagged at 4 % false alarms (threshold {threshold:.3f})"
    )
    weights = {
        k: v.half().contiguous() if v.is_floating_point() else v for k, v in average.state_dict().items()
    }
    save_file(weights, WEIGHTS, metadata={"held_out": json.dumps({"flagged": caught, "false_alarms": 0.04})})


if __name__ == "__main__":
    main()
