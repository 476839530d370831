"""Drawings of the quality benchmarks: the sheets of repaired and repainted hands, the phase transition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure as Drawing
from numpy.typing import NDArray

from bench.curve import DEFAULT_STRENGTH, Point
from bench.held_out import Example, Image, Repair
from export.tiny.dataset import Crop

EXAMPLES = 12  # hands on the sheet: the first held-out seeds, whatever they look like
ACROSS = 2  # hands side by side
COLUMNS = ("malformed", "depth", "repaired", "truth")
ZOOM = 1.35  # a view is this much wider than the judge's crop, so that one sees whether the hand fits
TILE = 192  # pixels
STRIPS = 2  # hands shown below the curve
REPAINTED = 6  # hands on the sheet of repainted ones

mpl.rcParams.update({"font.size": 9, "savefig.dpi": 110, "svg.hashsalt": "hoirt"})


def view(example: Example, image: Image) -> Image:
    """The hand with some of its surroundings, as it stands in the picture, RGB (192, 192, 3)."""
    crop = example.crop
    margin = (ZOOM - 1) / 2 * crop.side
    tile = Crop(crop.x - margin, crop.y - margin, ZOOM * crop.side).of(image, TILE)
    return tile if tile.ndim == 3 else np.repeat(tile[..., None], 3, axis=2)


def contact_sheet(examples: Sequence[Example], repairs: Sequence[Repair], path: Path) -> None:
    """Writes rows of malformed, depth, repaired, truth for the first examples."""
    chosen = list(zip(examples, repairs, strict=True))[:EXAMPLES]
    rows = -(-len(chosen) // ACROSS)
    drawing = Drawing(figsize=(ACROSS * len(COLUMNS) * 1.6, rows * 1.6 + 0.25), layout="constrained")
    grid = drawing.subplots(rows, ACROSS * len(COLUMNS), squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for k, (one, made) in enumerate(chosen):
        tiles = (one.picture.malformed, made.depth, made.image, one.picture.image)
        for column, (name, tile) in enumerate(zip(COLUMNS, tiles, strict=True)):
            axes = grid[k // ACROSS, k % ACROSS * len(COLUMNS) + column]
            axes.imshow(view(one, tile))
            if k < ACROSS:
                axes.set_title(name)
    _save(drawing, path)


def repaint_sheet(examples: Sequence[Example], columns: Mapping[str, Sequence[Image]], path: Path) -> None:
    """Writes a row for each of the first examples: the truth, then the pictures (H, W, 3) of every column."""
    chosen = examples[:REPAINTED]
    shown = {"truth": [one.picture.image for one in chosen], **columns}
    drawing = Drawing(figsize=(1.6 * len(shown), 1.6 * len(chosen) + 0.4), layout="constrained")
    grid = drawing.subplots(len(chosen), len(shown), squeeze=False)
    for axes, (name, images) in zip(grid.T, shown.items(), strict=True):
        axes[0].set_title(name.replace(", ", ",\n", 1), fontsize=7)
        for cell, one, image in zip(axes, chosen, images, strict=False):
            cell.imshow(view(one, image))
            cell.axis("off")
    _save(drawing, path)


def phase_transition(
    curve: Sequence[Point], examples: Sequence[Example], judge_error: float, path: Path
) -> None:
    """Writes the joint error over the control strength, with two hands at some of the strengths below it."""
    shown = [point for point in curve if point.strength in (0.0, 0.2, 0.4, DEFAULT_STRENGTH, 0.8, 1.0)]
    strips = min(STRIPS, len(examples))
    drawing = Drawing(figsize=(7.0, 3.2 + 1.2 * strips), layout="constrained")
    parts: Any = drawing.subfigures(2, 1, height_ratios=(3.2, 1.2 * strips))
    above, below = parts
    axes = above.subplots()
    strengths: NDArray[np.float64] = np.array([point.strength for point in curve])
    axes.errorbar(
        strengths, [p.mean for p in curve], [p.standard_error for p in curve], marker="o", ms=4, capsize=2
    )
    axes.axhline(judge_error, ls="--", c="0.3", label="the judge's own error on truths")
    axes.axhline(2 * judge_error, ls=":", c="0.3", label="twice that")
    axes.axvline(DEFAULT_STRENGTH, c="C1", lw=1, label=f"default strength {DEFAULT_STRENGTH}")
    axes.set(xlabel="control strength", ylabel="joint error / pixels of the crop", ylim=(0, None))
    axes.legend(frameon=False)
    grid = below.subplots(strips, len(shown) + 1, squeeze=False)
    for row, one in zip(grid, examples, strict=False):
        tiles = [("malformed", one.picture.malformed)]
        tiles += [(f"{point.strength:g}", point.repairs[examples.index(one)].image) for point in shown]
        for cell, (name, tile) in zip(row, tiles, strict=True):
            cell.imshow(view(one, tile))
            cell.axis("off")
            if one is examples[0]:
                cell.set_title(name)
    _save(drawing, path)


def _save(drawing: Drawing, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    drawing.savefig(temporary, format="png", metadata={"Software": None})
    temporary.replace(path)
