"""`hoirt pack compile`: packages for the aoti backend, kept in the cache."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import re
import sys
from typing import Any

from hoirt.cli.build import PACKAGE, find_in_checkout
from hoirt.errors import BackendError, InputError

NEEDED = ("torch", "onnx")
DESCRIPTION = """\
Compiles the networks of a pack with PyTorch's AOTInductor for this machine and keeps the packages in hoirt's
cache, where the aoti backend finds them. They are machine code for one device, torch version, precision and
picture size; other sizes are further packages. What is there already is not compiled again.
"""


def add_parser(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser | None = None,
) -> None:
    """Adds `compile` to the actions of `hoirt pack`."""
    parser = actions.add_parser(
        "compile",
        help="compile the networks of a pack for the aoti backend (needs the extra aoti)",
        description=DESCRIPTION,
        parents=[common] if common else [],
    )
    add = parser.add_argument
    add("pack", metavar="PATH|NAME", help="a folder, or the name of an installed pack")
    add("--device", default="auto", help="cuda, cuda:1 or cpu (default: cuda where torch sees a device)")
    add(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16", "fp8"),
        default="auto",
        help="of the arithmetic; fp8: linear layers of the step, the rest bf16 (default: the pack's)",
    )
    add("--size", metavar="HxW", help="sides of the pictures in pixels (default: the pack's crop)")
    add(
        "--batch", type=int, metavar="N", help="compile the step for exactly N pictures (default: any number)"
    )
    add("--max-autotune", action="store_true", help="time the candidates for every kernel; takes long")
    add(
        "--no-trials",
        dest="trials",
        action="store_false",
        help="do not try which kernels are faster for attentions and small convolutions",
    )
    add("--streams", type=int, choices=(1, 2), default=1, help="2: ControlNet beside the UNet's encoder")
    add("--role", action="append", metavar="ROLE", help="only this network; may be given again")
    add("--force", action="store_true", help="compile again what is there")
    add("-q", "--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs `hoirt pack compile …`; returns the exit code."""
    compiler = load_compiler()
    options = compiler.Options(
        device=args.device,
        precision=args.precision,
        size=None if args.size is None else size(args.size),
        batch=args.batch,
        max_autotune=args.max_autotune,
        trials=args.trials,
        streams=args.streams,
        roles=None if args.role is None else tuple(args.role),
        force=args.force,
    )
    done = compiler.compile_pack(
        args.pack, options, (lambda text: None) if args.quiet else lambda text: print(text, file=sys.stderr)
    )
    total = sum(entry.bytes for entry in done)
    print(f"{len(done)} packages, {total / 1e6:.1f} MB, in {done[0].folder.parent}")
    return 0


def size(text: str) -> tuple[int, int]:
    """(512, 768) of "512x768". Raises InputError."""
    match = re.fullmatch(r"([0-9]{1,5})[xX]([0-9]{1,5})", text)
    if match is None:
        raise InputError(f"--size {text!r}: write height and width in pixels, such as 512x768")
    return int(match[1]), int(match[2])


def load_compiler() -> Any:
    """The module `hoirt_export.aoti.pack`. Raises BackendError naming the extra if packages are missing."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise BackendError(
            f"compiling packs needs {', '.join(missing)}, which this environment has not got: "
            "pip install 'hoirt[aoti]'"
        )
    find_in_checkout()
    return importlib.import_module(f"{PACKAGE}.aoti.pack")
