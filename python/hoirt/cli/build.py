"""`hoirt pack build handrefiner`: makes a pack from the weights that a user has."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from hoirt.errors import HoirtError, InputError

PACKAGE = "hoirt_export"
NEEDED = ("torch", "diffusers", "transformers", "onnx", "onnxscript")
PRECISIONS = ("fp32", "bf16", "fp16", "int8")
OK, FAILED = 0, 1

DESCRIPTION = """\
Builds a pack from published weights. The base model is a folder in the layout of diffusers, a single
.safetensors or an LDM .ckpt, of Stable Diffusion 1.5 or SDXL, for inpainting or plain; no code in a
checkpoint is ever run. Little memory is needed: weights are read one by one. An interrupted build goes on
when the same command is given again.
"""


def add_parser(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser | None = None,
) -> None:
    """Adds `build` to `hoirt pack`."""
    parser = actions.add_parser(
        "build",
        help="make a pack from published weights (needs the extra export)",
        description=DESCRIPTION,
        parents=[common] if common else [],
    )
    parser.add_argument("task", choices=["handrefiner"], help="what the pack is for")
    add = parser.add_argument
    add("--base", type=Path, required=True, metavar="PATH", help="the base model")
    add(
        "--controlnet",
        type=Path,
        metavar="PATH",
        help="the depth ControlNet, in any layout (default: the one inside of the base's file)",
    )
    add("--mesh", type=Path, metavar="PATH", help="graphormer_hand_state_dict.bin of MeshGraphormer")
    add("--mano", type=Path, metavar="PATH", help="MANO_RIGHT.pkl; needed with --mesh")
    add(
        "--mesh-data",
        type=Path,
        metavar="DIR",
        help="src/modeling/data of MeshGraphormer (default: the folder of --mesh)",
    )
    add("--hands", type=Path, metavar="PATH", help="mediapipe's hand_landmarker.task")
    add(
        "--lora",
        action="append",
        default=[],
        metavar="PATH[:SCALE]",
        help="a LoRA to add to the base model, with a scale (default 1); may be given again",
    )
    add("--tokenizer", type=Path, metavar="DIR", help="CLIP's tokenizer, for a base in a single file")
    add("-o", "--out", type=Path, required=True, metavar="PACK", help="the folder to write")
    add(
        "--precision",
        choices=PRECISIONS,
        default="fp32",
        help="the lowest arithmetic the pack bears (default: fp32); below it weights are stored as halves",
    )
    add("--pictures", type=Path, metavar="DIR", help="int8: pictures with hands to calibrate with")
    add("--name", metavar="NAME", help="name of the pack (default: that of its folder)")
    add("--steps", type=int, default=20, metavar="N", help="default of refine() (default: 20)")
    add("--guidance", type=float, default=9.0, metavar="X", help="default of refine() (default: 9)")
    add("--strength", type=float, default=0.55, metavar="X", help="default of refine() (default: 0.55)")
    add(
        "--feature-reuse",
        action="store_true",
        help="with the graphs that refine(reuse=...) needs; they share the weights of the step",
    )
    add("--dry-run", action="store_true", help="read headers only, print what would be built")
    add("--overwrite", action="store_true", help="replace a pack that is there")
    add("-q", "--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs `hoirt pack build …`; returns the exit code."""
    try:
        export = load_exporter()
        plan = export["plan"].make_plan(_request(args, export["request"].Request))
        if args.dry_run:
            print("\n".join(export["plan"].describe(plan)))
            return OK
        out = export["run"].carry_out(plan, quiet=args.quiet)
    except KeyboardInterrupt:
        print("hoirt pack build: interrupted; the same command goes on from here", file=sys.stderr)
        raise
    except (HoirtError, OSError) as error:
        if getattr(args, "debug", False):
            raise
        print(f"hoirt pack build: {error}", file=sys.stderr)
        return FAILED
    print(out)
    return OK


def load_exporter() -> dict[str, ModuleType]:
    """The modules of `hoirt_export.building`. Raises HoirtError naming the extra if packages are missing."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise HoirtError(
            f"building packs needs {', '.join(missing)}, which this environment has not got: "
            "pip install 'hoirt[export]'"
        )
    find_in_checkout()
    return {
        name: importlib.import_module(f"{PACKAGE}.building.{name}") for name in ("request", "plan", "run")
    }


def find_in_checkout() -> None:
    """In a checkout the exporter is the folder `export` beside `python`; a wheel has it as PACKAGE."""
    if PACKAGE in sys.modules:
        return
    folder = Path(__file__).resolve().parents[3] / "export"
    start = folder / "__init__.py"
    if not (folder / "building" / "run.py").is_file():
        return
    spec = importlib.util.spec_from_file_location(PACKAGE, start, submodule_search_locations=[str(folder)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = module
    spec.loader.exec_module(module)


def _request(args: argparse.Namespace, request: Any) -> Any:
    return request(
        base=args.base,
        out=args.out,
        controlnet=args.controlnet,
        mesh=args.mesh,
        mano=args.mano,
        mesh_data=args.mesh_data,
        hands=args.hands,
        loras=tuple(lora(text) for text in args.lora),
        tokenizer=args.tokenizer,
        precision=args.precision,
        name=args.name,
        steps=args.steps,
        guidance=args.guidance,
        strength=args.strength,
        pictures=args.pictures,
        feature_reuse=args.feature_reuse,
        overwrite=args.overwrite,
    )


def lora(text: str) -> tuple[Path, float]:
    """PATH or PATH:SCALE. A colon that belongs to the path stays in it. Raises InputError."""
    if Path(text).exists():
        return Path(text), 1.0
    path, colon, scale = text.rpartition(":")
    if not colon:
        return Path(text), 1.0
    try:
        value = float(scale)
    except ValueError:
        raise InputError(f"--lora {text}: {scale!r} is not a scale; write PATH:0.8") from None
    if not -10.0 <= value <= 10.0:
        raise InputError(f"--lora {text}: the scale must be between -10 and 10")
    return Path(path), value
