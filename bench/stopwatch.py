"""Seconds of calls, measured in turns, so that what else the machine does falls on all of them alike."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Seconds:
    """The seconds of every round of one case."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def least(self) -> float:
        return min(self.rounds)

    def divided(self, by: int) -> Seconds:
        """Of one part, where every round did `by` equal ones."""
        return Seconds(tuple(value / by for value in self.rounds))

    def summary(self) -> dict[str, float]:
        """For the JSON file."""
        return {"min": self.least, "median": self.median, "max": max(self.rounds), "rounds": len(self.rounds)}


def in_turns(cases: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, Seconds]:
    """Calls every case once to warm it up, then all of them in turns, `rounds` times."""
    for call in cases.values():
        call()
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, call in cases.items():
            start = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - start)
    return {name: Seconds(tuple(values)) for name, values in taken.items()}


def in_fresh_processes(before: str, timed: str, rounds: int) -> Seconds:
    """Seconds of the statement `timed` after `before`, each in a new interpreter; the first is dropped."""
    code = f"{before}\nimport time\nstart = time.perf_counter()\n{timed}\nprint(time.perf_counter() - start)"
    taken = [
        float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
        for _ in range(rounds + 1)
    ]
    return Seconds(tuple(taken[1:]))
