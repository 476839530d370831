"""Options that say with what the networks run, for the subcommands that repair pictures."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hoirt.pipeline.refiner import Refiner


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds --pack, --device, --backend, --precision and --threads."""
    group = parser.add_argument_group("what it runs with")
    group.add_argument("--pack", default="handrefiner-tiny", help="a bundled pack or a pack folder")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1 (auto: a GPU if it works)")
    group.add_argument("--backend", default="auto", help="one of those that `hoirt doctor` lists (auto)")
    group.add_argument("--precision", default="auto", help="auto, fp32, bf16, fp16, fp8 or int8 (auto)")
    group.add_argument("--threads", type=_threads, help="CPU threads of one network (all cores)")


def open_refiner(options: argparse.Namespace) -> Refiner:
    """The Refiner of these options; errors as there."""
    from hoirt import Refiner

    return Refiner(
        options.pack,
        device=options.device,
        backend=options.backend,
        precision=options.precision,
        threads=options.threads,
    )


def _threads(text: str) -> int:
    value, most = int(text), 1024  # a ValueError is a usage error
    if not 1 <= value <= most:
        raise argparse.ArgumentTypeError(f"{text} is not between 1 and {most}")
    return value
