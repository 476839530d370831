"""Measures hoirt on a GPU: correctness, kernels, rasteriser, steps and a whole refine, beside the peers.

    python -m bench.gpu [--stage STAGE,STAGE] [--out FILE]
    python -m bench.gpu --device cpu --tiny        # a smoke test without a GPU

Stages: correctness, kernels, raster, tiny, step, refine, pictures, sdxl, sanitizer; all of them by default.

Needs the checkout, Python, PyTorch, NumPy, pybind11, CMake, ninja and nvcc, and no network. It builds the
native modules first, for the GPU at hand; where there is none, for all, or those in the environment's
CUDAARCHS. Results are written after each measurement; a run ends within --budget seconds and says what it had
no time for. Compiled packages are kept in --work, so a second run goes on where the first ended.
docs/gpu.md explains the figures.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.gpu import native
from bench.gpu.session import Session, text_of

STAGES = ("correctness", "kernels", "raster", "tiny", "step", "refine", "pictures", "sdxl", "sanitizer")
RESULTS = Path(__file__).parents[1] / "results" / "gpu" / "results.json"


def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    started = time.monotonic()
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str((args.work / "inductor").absolute()))
    # Of max-autotune, for hoirt and peers alike: milliseconds for each candidate, else 25 and 100.
    os.environ.setdefault("TORCHINDUCTOR_DEFAULT_AUTOTUNE_WARMUP", "5")
    os.environ.setdefault("TORCHINDUCTOR_DEFAULT_AUTOTUNE_REP", "20")
    if args.build or native.is_built():  # else the hoirt that is installed
        sys.path.insert(0, str(native.PACKAGE.parent))
    import torch

    gpu = args.device != "cpu"
    if args.build:
        print("building the native modules ...", flush=True)
        if reason := native.build(args.work / "native", cuda=gpu):
            print(f"the native modules could not be built: {reason}", file=sys.stderr)
            return 1
        print(f"built in {time.monotonic() - started:.0f} s", flush=True)
    if gpu and not torch.cuda.is_available():
        print("there is no GPU that torch can use; --device cpu --tiny runs a smoke test", file=sys.stderr)
        return 2
    torch.backends.cudnn.benchmark = True  # as hoirt runs packages, and for the peers too
    session = Session(
        args.device,
        args.tiny,
        args.out,
        args.budget,
        args.autotune,
        2 if args.tiny else args.rounds,
        args.work,
        started=started,
    )
    from bench.gpu import limits

    limits.measure_limits(session)
    for stage in args.stage:
        _run(session, stage)
    print("\n" + "\n".join(text_of(row) for row in session.rows))
    print(f"\n{session.facts.get('gpu', '')}; {args.out}")
    wrong = [row for row in session.rows if "WRONG" in row.note or "NOT the same" in row.note]
    return 1 if wrong else 0


def _run(session: Session, stage: str) -> None:
    """A stage that cannot even be imported is a row too."""
    try:
        if stage in ("tiny", "step", "sdxl"):
            from bench.gpu import networks

            networks.run(session, stage)
        elif stage == "refine":
            from bench.gpu import refine

            refine.run(session)
        elif stage == "pictures":
            from bench.gpu import pictures

            pictures.run(session)
        elif stage == "kernels":
            from bench.gpu import kernels

            kernels.run(session)
        elif stage == "raster":
            from bench.gpu import raster

            raster.run(session)
        else:
            from bench.gpu import correctness

            (correctness.sanitize if stage == "sanitizer" else correctness.run)(session)
    except ImportError as error:
        session.add(stage, "all", note=f"failed: {error}")


def _stages(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    unknown = [name for name in names if name not in STAGES]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"choose some of {','.join(STAGES)}, not {text!r}")
    return names


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stage", type=_stages, default=list(STAGES), help="some of the stages, with commas")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--device", default="cuda:0", help='"cuda:0" or "cpu"')
    parser.add_argument("--tiny", action="store_true", help="small networks; the figures mean nothing")
    parser.add_argument("--budget", type=float, default=590.0, help="seconds for everything")
    parser.add_argument("--rounds", type=int, default=10, help="of each measurement")
    parser.add_argument(
        "--no-autotune", dest="autotune", action="store_false", help="compile faster, run slower"
    )
    parser.add_argument("--no-build", dest="build", action="store_false", help="the native modules are there")
    parser.add_argument(
        "--work", type=Path, default=native.ROOT / "build" / "gpu", help="folder for what is kept"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
