"""`hoirt pack quantize`: an int8 pack of a pack, calibrated on pictures."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from hoirt.cli.build import PACKAGE, load_exporter
from hoirt.cli.files import UsageError


def add_parser(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser | None = None,
) -> None:
    """Adds `quantize` to the actions of `hoirt pack`."""
    text = "make an int8 pack of a pack, calibrated on pictures with hands"
    parser = actions.add_parser("quantize", help=text, description=text, parents=[common] if common else [])
    parser.add_argument("pack", metavar="PATH|NAME", help="a folder, or the name of an installed pack")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of the new pack")
    parser.add_argument(
        "--calibrate", type=Path, metavar="FOLDER", help="pictures with hands; drawn ones if not given"
    )
    parser.add_argument("--count", type=int, default=8, help="pictures to calibrate with (8)")
    parser.add_argument("--threads", type=int, default=None, help="of a network; all cores if not given")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs `hoirt pack quantize …`; returns the exit code."""
    if args.count < 1:
        raise UsageError(f"--count must be 1 or more, not {args.count}")
    if args.threads is not None and args.threads < 1:
        raise UsageError(f"--threads must be 1 or more, not {args.threads}")
    if args.out.exists() and not args.overwrite:
        raise UsageError(f"{args.out} exists; add --overwrite to replace it")
    report = _exporter().quantize_pack(
        args.pack,
        args.out,
        pictures=args.calibrate,
        count=args.count,
        threads=args.threads,
        overwrite=args.overwrite,
        say=lambda text: print(f"hoirt: {text}", file=sys.stderr),
    )
    if args.json:
        print(json.dumps({**vars(report), "path": str(report.path)}))
    else:
        print(
            f"{report.path}: {report.layers} layers in int8, {report.kept} as before; "
            f"{report.bytes_before / 1e6:.1f} -> {report.bytes_after / 1e6:.1f} MB; "
            f"the prediction differs by {report.error:.2%} on a picture that was not calibrated with"
        )
    return 0


def _exporter() -> Any:
    """The module that makes int8 packs; HoirtError names what it needs and this environment has not got."""
    load_exporter()
    return importlib.import_module(f"{PACKAGE}.int8.pack")
