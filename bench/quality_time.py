"""The drawing of quality against time: every way to denoise is a dot, the best ones are joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure as Drawing

MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")


@dataclass(frozen=True)
class Dot:
    """One way: its family (colour and mark), the text at the dot, seconds, joint error, share flagged."""

    family: str
    text: str
    seconds: float
    joint_error: float
    flagged: float


def front(dots: Sequence[Dot], quality: str) -> list[Dot]:
    """Those that no other dot beats in both time and the attribute `quality`, the fastest first."""
    best: list[Dot] = []
    for dot in sorted(dots, key=lambda dot: (dot.seconds, getattr(dot, quality))):
        if not best or getattr(dot, quality) < getattr(best[-1], quality):
            best.append(dot)
    return best


def draw(dots: Sequence[Dot], path: Path) -> None:
    """Writes a PNG with two panels over the time of the denoising stage: joint error and share flagged."""
    with mpl.rc_context({"font.size": 9, "savefig.dpi": 110}):
        drawing = Drawing(figsize=(9.0, 4.2), layout="constrained")
        panels = drawing.subplots(1, 2)
        names = (("joint_error", "joint error / pixels of the crop"), ("flagged", "share called malformed"))
        families = list(dict.fromkeys(dot.family for dot in dots))
        for axes, (quality, label) in zip(panels, names, strict=True):
            for k, family in enumerate(families):
                own = [dot for dot in dots if dot.family == family]
                axes.plot(
                    [dot.seconds for dot in own],
                    [getattr(dot, quality) for dot in own],
                    MARKS[k % len(MARKS)],
                    ms=4,
                    c=f"C{k % 10}",
                    label=family,
                )
            best = front(dots, quality)
            axes.plot(
                [dot.seconds for dot in best],
                [getattr(dot, quality) for dot in best],
                c="0.6",
                lw=1,
                zorder=0,
            )
            for dot in best:
                place = (dot.seconds, getattr(dot, quality))
                axes.annotate(dot.text, place, (3, 3), textcoords="offset points", fontsize=7)
            axes.set(xscale="log", xlabel="time of denoising / s", ylabel=label)
        panels[1].set_ylim(0, max(0.1, *(1.1 * dot.flagged for dot in dots)))  # shares are read from zero
        drawing.legend(
            *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}")
        drawing.savefig(temporary, format="png", metadata={"Software": None})
        temporary.replace(path)
