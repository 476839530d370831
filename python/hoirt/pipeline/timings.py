"""Where the seconds went: Timings of one picture, and the stopwatch that fills it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Timings:
    """Seconds spent in each stage of one picture; `total` is the whole call, glue included.

    Of pictures that share one run of the loop, each counts the seconds of the whole run.
    """

    load: float = 0.0
    detect: float = 0.0
    mesh: float = 0.0
    render: float = 0.0
    encode: float = 0.0
    denoise: float = 0.0
    decode: float = 0.0
    paste: float = 0.0
    total: float = 0.0

    def as_dict(self) -> dict[str, float]:
        """Stage name -> seconds."""
        return asdict(self)


class Stopwatch:
    """Adds up seconds per stage: `with watch("mesh"): ...`."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._seconds: dict[str, float] = {}
        self._running: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        self.start(stage)
        try:
            yield
        finally:
            self.stop(stage)

    def start(self, stage: str) -> None:
        """Begins to count for `stage`."""
        self._running[stage] = time.perf_counter()

    def stop(self, stage: str) -> None:
        """Ends what `start` began."""
        seconds = time.perf_counter() - self._running.pop(stage)
        self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds

    def timings(self) -> Timings:
        """What was measured up to now."""
        return Timings(**self._seconds, total=time.perf_counter() - self._start)
