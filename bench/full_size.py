"""Stable Diffusion 1.5 with ControlNet at full size, random weights: parity, speed, memory beside diffusers.

    python -m bench.full_size [--parts build,parity,step,...] [--folder DIR] [--threads N] [--rounds 3]

Everything is made from nothing in --folder: checkpoints as they are published, packs by `hoirt pack build`.
Parts that ran before stay in the results. Prints each figure beside its bound; exit code 1 if one is missed.
bench/README.md explains the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.full.files import ROOT, Files
from bench.full.parts import PARTS
from bench.record import RESULTS, Figure, document, figures_of, finite, table, write_json


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default=",".join(PARTS), help="some of the parts, in this order")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "hoirt-full-size")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of both sides")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "full_size.json")
    parser.add_argument("--inside", help=argparse.SUPPRESS)  # one part, in a process of its own
    args = parser.parse_args(argv)
    files = Files(args.folder.absolute())
    if args.inside:
        made = PARTS[args.inside](files, args.threads, args.rounds)
        print(json.dumps([asdict(figure) | {"value": finite(figure.value)} for figure in made]))
        return 0
    wanted = args.parts.split(",")
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"unknown parts {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    figures: list[Figure] = []
    failed = []
    for part in wanted:
        try:
            measured = {part: _measure(part, args)}
        except subprocess.CalledProcessError:  # it said why
            failed.append(part)
            continue
        figures += figures_of({"figures": measured[part]["figures"]})
        _store(args.out, measured, args.threads)
    print(table(figures))
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 0 if not failed and all(figure.holds for figure in figures) else 1


def _measure(part: str, args: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.full_size", "--inside", part, "--folder", str(args.folder)]
    options = ["--threads", str(args.threads), "--rounds", str(args.rounds)]
    done = subprocess.run([*command, *options], check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    load = round(os.getloadavg()[0], 2)
    return {"load_average": load, "figures": json.loads(done.stdout.splitlines()[-1])}


def _store(path: Path, measured: dict[str, Any], threads: int) -> None:
    """Puts the parts among those that are there, in the order of PARTS."""
    stored = json.loads(path.read_text())["parts"] if path.exists() else {}
    parts = stored | measured
    ordered = {name: parts[name] for name in PARTS if name in parts}
    figures = figures_of({"figures": [entry for part in ordered.values() for entry in part["figures"]]})
    write_json(path, document("full_size", figures, threads, parts=ordered))


if __name__ == "__main__":
    raise SystemExit(main())
