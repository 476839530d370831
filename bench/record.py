"""What a benchmark leaves behind: figures with their bounds, the machine, a JSON file."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

RESULTS = Path(__file__).with_name("results")
VERSIONS = ("hoirt", "openvino", "numpy", "torch", "diffusers", "transformers", "onnx", "torchmetrics")


@dataclass(frozen=True)
class Figure:
    """One measured value.

    Attributes:
        name: what was measured, as a reader of the table sees it.
        value: in `unit`; a share of 1 if the unit is "%".
        bound: what `value` must not exceed ("at most") or fall below ("at least"); None: it is only stated.
        note: how it was measured, if the name does not say.
    """

    name: str
    value: float
    unit: str = ""
    bound: float | None = None
    sense: Literal["at most", "at least"] = "at most"
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether the bound is kept; a figure that is not a number keeps none."""
        if self.bound is None:
            return True
        return self.value <= self.bound if self.sense == "at most" else self.value >= self.bound

    def shown(self) -> tuple[str, str, str]:
        """Value, bound and verdict as text; the last two are empty for a figure without bound."""
        value = _text(self.value, self.unit)
        if self.bound is None:
            return value, "", ""
        sign = "<=" if self.sense == "at most" else ">="
        return value, f"{sign} {_text(self.bound, self.unit)}", "ok" if self.holds else "MISSED"


def _text(value: float, unit: str) -> str:
    if unit == "%":
        return f"{100 * value:.1f} %"
    digits = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{digits} {unit}".rstrip()


def table(figures: Sequence[Figure]) -> str:
    """The figures in aligned columns: name, value, bound, verdict."""
    rows = [("figure", "value", "bound", ""), *((figure.name, *figure.shown()) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), row[1].rjust(widths[1]), row[2].rjust(widths[2]), row[3]]
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def environment(threads: int | None = None) -> dict[str, Any]:
    """When, on what and with which versions. `threads`: of one network, None for all cores."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": threads or len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: version for name in VERSIONS if (version := _version(name))},
    }


def _cpu() -> str:
    """The processor's name and the vector instructions that decide its speed here."""
    lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    fields = {key.strip(): value.strip() for key, _, value in lines}
    flags = fields.get("flags", "").split()
    wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    kept = ", ".join(flag for flag in wanted if flag in flags)
    return f"{fields.get('model name', platform.processor() or 'unknown')} ({kept or 'no AVX2'})"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def document(kind: str, figures: Sequence[Figure], threads: int | None, **details: Any) -> dict[str, Any]:
    """What `write_json` stores: the kind of benchmark, the environment, the figures and further details."""
    return {
        "benchmark": kind,
        "environment": environment(threads),
        "figures": [asdict(figure) | {"value": finite(figure.value)} for figure in figures],
        **details,
    }


def finite(value: float) -> float | None:
    """The value, or None if it is NaN or infinite, which JSON cannot tell."""
    return value if math.isfinite(value) else None


def figures_of(stored: Mapping[str, Any]) -> list[Figure]:
    """The figures of a stored document."""
    return [
        Figure(**entry | {"value": math.nan if entry["value"] is None else entry["value"]})
        for entry in stored["figures"]
    ]


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes the file in one piece: under another name first, then renamed. NaN is refused."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
