"""The training plan: which stages exist, how long each takes, and the command that runs them.

python -m export.tiny.train                 every stage, from nothing to a pack, on the CPU or on CUDA
python -m export.tiny.train --stage vae     one stage; goes on from its checkpoint
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch


def _vae(work: Path, count: int, minutes: float) -> None:
    from export.tiny.train import vae

    vae.train(work, count=count, minutes=minutes)


def _mesh(work: Path, count: int, minutes: float) -> None:
    from export.tiny.train import mesh

    mesh.train(work, count=count, minutes=minutes)


def _detector(work: Path, count: int, minutes: float) -> None:
    from export.tiny.train import detector

    detector.train(work, count=count, minutes=minutes)


def _diffusion(work: Path, count: int, minutes: float) -> None:
    from export.tiny.train import diffusion

    diffusion.train(work, count=count, minutes=minutes)


# Stage, function, default minutes on two CPU cores.
STAGES: dict[str, tuple[Callable[[Path, int, float], None], float]] = {
    "vae": (_vae, 25.0),
    "mesh": (_mesh, 30.0),
    "detector": (_detector, 15.0),
    "diffusion": (_diffusion, 180.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stage", choices=["all", *STAGES], default="all")
    parser.add_argument("--work", type=Path, default=Path(".train"), help="folder of data and checkpoints")
    parser.add_argument("--count", type=int, default=10000, help="pictures to train on")
    parser.add_argument("--minutes", type=float, default=None, help="training time of each chosen stage")
    parser.add_argument("--threads", type=int, default=None)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.stage == "all":
        from export.tiny import dataset

        dataset.make(0, args.count, args.work / "data")
    for name, (train, minutes) in STAGES.items():
        if args.stage in ("all", name):
            train(args.work, args.count, args.minutes or minutes)


if __name__ == "__main__":
    main()
