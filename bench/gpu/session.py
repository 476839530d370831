"""What all stages share: device, clock, time budget, and results that are written after every measurement."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RESERVE = 5.0  # seconds that are left for the last table


class OutOfTime(Exception):  # noqa: N818 - it is no error
    """The budget is spent; what was measured before is kept."""


@dataclass
class Row:
    """One measurement. ratios: how many times faster than a peer, or what share of a limit."""

    stage: str
    name: str
    milliseconds: float | None = None
    ratios: dict[str, float] = field(default_factory=dict)
    note: str = ""


@dataclass
class Session:
    """device: "cuda:0" or "cpu". tiny: small networks, for a smoke test. rounds: of each measurement."""

    device: str
    tiny: bool
    out: Path
    seconds: float
    autotune: bool = True
    rounds: int = 10
    work: Path = Path("build/gpu")
    rows: list[Row] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    shared: dict[str, Any] = field(default_factory=dict)  # what later stages use again
    started: float = field(default_factory=time.monotonic)

    @property
    def on_gpu(self) -> bool:
        """On the CPU nothing is compiled by inductor: it would take the longest and mean nothing."""
        return self.device != "cpu"

    def left(self) -> float:
        """Seconds of the budget."""
        return self.seconds - RESERVE - (time.monotonic() - self.started)

    def synchronize(self) -> None:
        if self.on_gpu:
            import torch

            torch.cuda.synchronize()

    def measure(self, call: Callable[[], Any], rounds: int = 0) -> float:
        """Median milliseconds of `call`, which may only enqueue work; two calls before warm it up."""
        for _ in range(2):
            call()
        taken = []
        for _ in range(rounds or self.rounds):
            self.synchronize()
            start = time.perf_counter()
            call()
            self.synchronize()
            taken.append(1000 * (time.perf_counter() - start))
        return statistics.median(taken)

    def measure_replayed(self, call: Callable[[], Any], times: int = 20) -> float:
        """Median milliseconds of one of `times` calls that a CUDA graph replays.

        Neither the host's launches nor its waits are in it, which count in what takes some microseconds. On
        the CPU: as measure().
        """
        if not self.on_gpu:
            return self.measure(call)
        import torch

        call()  # modules are loaded and algorithms chosen before the capture
        self.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(times):
                call()
        return self.measure(graph.replay) / times

    def add(self, stage: str, name: str, milliseconds: float | None = None, **more: Any) -> Row:
        """Keeps a measurement, on the screen and in the file."""
        row = Row(stage, name, milliseconds, **more)
        self.rows.append(row)
        print(text_of(row), flush=True)
        self.write()
        return row

    def ratios(self, stage: str, ours: str) -> None:
        """Adds to the rows that begin with `ours` how many times faster they are than each other row."""
        rows = [row for row in self.rows if row.stage == stage and row.milliseconds]
        for row in rows:
            for other in rows:
                if row.name.startswith(ours) and not other.name.startswith(ours):
                    row.ratios[other.name] = (other.milliseconds or 0.0) / (row.milliseconds or 1.0)
        self.write()

    @contextlib.contextmanager
    def attempt(self, stage: str, name: str) -> Iterator[None]:
        """A part that may fail or run out of time without ending the others; the reason is kept."""
        try:
            with self._limited():
                yield
        except OutOfTime:
            self.add(stage, name, note="not measured: the time budget was spent")
        except Exception as error:
            if self.left() <= 0:  # torch wraps what is raised inside of its compilers
                self.add(stage, name, note="not measured: the time budget was spent")
                return
            reason = " ".join(str(error).split())[:300]
            self.add(stage, name, note=f"failed: {type(error).__name__}: {reason}")

    @contextlib.contextmanager
    def _limited(self) -> Iterator[None]:
        left = max(1e-3, self.left())  # where nothing is left, the bell rings at once

        def ring(*_: object) -> None:
            raise OutOfTime

        before = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, left)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def write(self) -> None:
        """The file in one piece, so that a run that is cut off leaves what it had."""
        document = {
            "benchmark": "gpu",
            "environment": environment() | self.facts,
            "settings": {
                "device": self.device,
                "tiny": self.tiny,
                "autotune": self.autotune,
                "rounds": self.rounds,
            },
            "rows": [asdict(row) for row in self.rows],
        }
        self.out.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.out.with_name(f".{self.out.name}.{os.getpid()}")
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        temporary.replace(self.out)


def environment() -> dict[str, Any]:
    """When, and with which versions of what may be there."""
    import importlib.metadata as metadata

    versions = {}
    for name in ("torch", "triton", "numpy", "diffusers", "onnxruntime-gpu", "tensorrt", "pybind11"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
    }


def text_of(row: Row) -> str:
    """One line of the table."""
    value = "" if row.milliseconds is None else f"{row.milliseconds:10.3f} ms"
    ratios = ", ".join(f"{name} {ratio:.2f}" for name, ratio in row.ratios.items())
    return f"{row.stage:12} {row.name:36} {value:13} {ratios} {row.note}".rstrip()
