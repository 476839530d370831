"""Writes the training report, text and pictures, into docs/training.md from what the stages recorded.

    python -m export.tiny.train.report [--work .train] [--machine "what it ran on"] [--note "..."]

Run it where the training ran: unless --machine says otherwise, this machine's processor is named.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

DOCS = Path(__file__).parents[3] / "docs"
BEGIN, END = "<!-- report -->", "<!-- /report -->"
# In the order of training; the judge measures the pack and is no part of it.
STAGES = {
    "vae": "autoencoder",
    "mesh": "mesh regressor",
    "detector": "hand detector",
    "diffusion": "UNet, ControlNet, text encoder",
    "judge": "judge (not in the pack)",
}
SAMPLES = tuple(range(1_000_000, 1_000_008))  # validation pictures, which no stage trained on


@dataclass(frozen=True)
class Stage:
    """What a finished stage recorded. `losses`: rows of step, seconds, mean loss since the row before."""

    name: str
    seed: int
    steps: int
    minutes: float
    device: str
    torch: str
    parameters: int
    losses: list[tuple[int, float, float]]


def read_stages(work: Path) -> list[Stage]:
    """The stages that have finished, in the order of training. Raises FileNotFoundError if there is none."""
    stages = []
    for name in STAGES:
        path = work / f"{name}.json"
        if path.exists():
            record = json.loads(path.read_text(encoding="utf-8"))
            record["name"] = record.pop("stage")
            stages.append(Stage(**record))
    if not stages:
        raise FileNotFoundError(f"no stage has finished in {work}; run python -m export.tiny.train")
    return stages


def table(stages: Sequence[Stage]) -> str:
    """The stages as a Markdown table."""
    lines = [
        "| stage | parameters | steps | minutes | seed | loss, first and last |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for stage in stages:
        ends = f"{stage.losses[0][2]:.3f}, {stage.losses[-1][2]:.3f}" if stage.losses else "not recorded"
        lines.append(
            f"| {STAGES[stage.name]} | {stage.parameters / 1e6:.2f} M | {stage.steps} "
            f"| {stage.minutes:.1f} | {stage.seed} | {ends} |"
        )
    return "\n".join(lines)


def processor() -> str:
    """The name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def page(stages: Sequence[Stage], machine: str, *, samples: bool, note: str = "") -> str:
    """The text between the markers."""
    pack = [stage for stage in stages if stage.name != "judge"]
    devices = "; ".join(dict.fromkeys(stage.device for stage in stages))
    versions = ", ".join(dict.fromkeys(stage.torch for stage in stages))
    parts = [
        table(stages),
        f"{sum(stage.minutes for stage in pack):.0f} minutes of training for the pack. "
        f"Machine: {machine}. Devices of the stages: {devices}. torch {versions}.",
        "![Loss of every stage over its minutes](images/losses.png)",
        *([note] if note else []),
    ]
    if samples:
        parts.append(
            "![Malformed, repaired, and the well-formed truth](images/samples.png)\n\n"
            f"*Validation pictures {SAMPLES[0]} to {SAMPLES[-1]}, none left out: malformed (above), repaired "
            "with the default settings (middle), the well-formed truth (below).*"
        )
    return "\n\n".join(parts)


def fill(document: Path, text: str) -> None:
    """Replaces what stands between the markers of a document. Raises ValueError if it lacks them."""
    before, begin, rest = document.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{document} has no block {BEGIN} ... {END}")
    temporary = document.with_suffix(".part")
    temporary.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
    temporary.replace(document)


def draw_losses(stages: Sequence[Stage], path: Path) -> None:
    """A small panel per stage: loss over minutes, both scales of its own."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(
        1, len(stages), figsize=(2.4 * len(stages), 2.1), layout="constrained", squeeze=False
    )
    for axis, stage in zip(axes[0], stages, strict=True):
        rows = np.array(stage.losses, dtype=np.float64).reshape(-1, 3)
        axis.plot(rows[:, 1] / 60.0, rows[:, 2], color="#c2650c", linewidth=1.2)
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(ticker.NullFormatter())
        axis.set_title(STAGES[stage.name].replace(", text", ",\ntext").replace(" (", "\n("), fontsize=8)
        axis.set_xlabel("minutes", fontsize=7)
        axis.tick_params(labelsize=6, which="both")
        axis.grid(alpha=0.25, linewidth=0.5)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def draw_samples(pack: Path, path: Path) -> None:
    """Three rows of pictures: malformed, repaired by the pack, well-formed."""
    import hoirt

    from ..scenes import make_picture

    pictures = [make_picture(seed) for seed in SAMPLES]
    results = hoirt.Refiner(pack)(
        [picture.malformed for picture in pictures],
        prompt=[", ".join(hand.caption for hand in picture.hands) for picture in pictures],
    )
    failed = [result.error for result in results if result.error is not None]
    if failed:
        raise failed[0]
    rows: list[list[Any]] = [
        [picture.malformed for picture in pictures],
        [result.image for result in results],
        [picture.image for picture in pictures],
    ]
    Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in rows])).save(path, optimize=True)


def main() -> None:
    from ..build import PACK

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path(".train"), help="folder of the training")
    parser.add_argument("--machine", default=None, help="what the training ran on")
    parser.add_argument("--note", default="", help="what else a reader must know of this training")
    parser.add_argument("--pack", type=Path, default=PACK, help="the pack that draws the samples")
    args = parser.parse_args()
    stages = read_stages(args.work)
    (DOCS / "images").mkdir(parents=True, exist_ok=True)
    draw_losses(stages, DOCS / "images" / "losses.png")
    samples = (args.pack / "pack.json").is_file()
    if samples:
        draw_samples(args.pack, DOCS / "images" / "samples.png")
    else:
        print(f"no pack in {args.pack}: the report has no samples")
    fill(DOCS / "training.md", page(stages, args.machine or processor(), samples=samples, note=args.note))
    print(f"{DOCS / 'training.md'}: {', '.join(stage.name for stage in stages)}")


if __name__ == "__main__":
    main()
