"""The training plan: which stages exist, how long each takes, and the command that runs them.

python -m export.tiny.train                 every stage, from nothing to a pack, on the CPU or on CUDA
python -m export.tiny.train --stage vae     one stage; goes on from its checkpoint
"""

from __future__ import annotations

import argparse
import importlib
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Stage:
    """How many minutes a training stage gets: on two CPU cores, and on one data-centre GPU."""

    cpu_minutes: float
    cuda_minutes: float


# In order; each key is also the module of this package whose train() runs the stage.
STAGES: dict[str, Stage] = {
    "vae": Stage(40.0, 2.5),
    "mesh": Stage(40.0, 2.0),
    "detector": Stage(20.0, 2.0),
    "diffusion": Stage(180.0, 6.0),
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
        from .. import dataset

        dataset.make(0, args.count, args.work / "data")
    for name, stage in STAGES.items():
        if args.stage in ("all", name):
            planned = stage.cuda_minutes if torch.cuda.is_available() else stage.cpu_minutes
            module = importlib.import_module(f"export.tiny.train.{name}")
            module.train(args.work, count=args.count, minutes=args.minutes or planned)


if __name__ == "__main__":
    main()
