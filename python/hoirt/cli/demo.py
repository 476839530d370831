"""`hoirt demo`: repairs the pictures that come with the package."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from hoirt.cli import runtime
from hoirt.errors import HoirtError

PICTURES = Path(__file__).resolve().parent.parent / "demo"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand to `hoirt`."""
    parser = commands.add_parser("demo", help="repair the bundled demo pictures")
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("out/demo"), help="folder of the results (out/demo)"
    )
    runtime.add_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Writes NAME_before.png, NAME_after.png and sheet.png, and prints where they are. Returns 0."""
    from hoirt.imaging import load, save
    from hoirt.report import Sheet

    sources = sorted(PICTURES.glob("*.png"))
    if not sources:
        raise HoirtError(f"this installation has no demo pictures in {PICTURES}")
    prompts = _prompts()
    refiner = runtime.open_refiner(options)
    options.out.mkdir(parents=True, exist_ok=True)
    sheet = Sheet()
    for source in sources:
        result = refiner(source, prompt=prompts.get(source.name, ""))
        save(load(source).original, options.out / f"{source.stem}_before.png")
        after = save(result.image, options.out / f"{source.stem}_after.png")
        sheet.add(source.stem, source, result)
        print(f"{after}: {result.summary()}")
    print(f"before and after side by side: {save(sheet.image(), options.out / 'sheet.png')}")
    return 0


def _prompts() -> dict[str, str]:
    """File name -> what the picture shows."""
    path = PICTURES / "prompts.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
