"""What passes between `build` and a sampler family: the request, and the family's rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hoirt.errors import InputError
from hoirt.schedules import noise
from hoirt.schedules.table import FloatArray


@dataclass(frozen=True, kw_only=True)
class Request:
    """The arguments of `build` that a family may use, already checked."""

    steps: int
    start: float | None = None
    eta: float = 0.0
    mu: float | None = None
    timesteps: FloatArray | None = None
    sigmas: FloatArray | None = None
    use_clipped_model_output: bool = False

    def first_row(self) -> int:
        """Image-to-image: with `start` < 1 only the last int(steps * start) rows run."""
        if self.start is None:
            return 0
        rows = min(int(self.steps * self.start), self.steps)
        if rows < 1:
            raise InputError(
                f"start={self.start} of {self.steps} steps leaves no step; start must be >= 1 / steps"
            )
        return self.steps - rows


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The rows that a family will run; columns have shape (S,). `signal` and `noise` are the state's level
    before each row: x = signal x0 + noise n."""

    timestep: FloatArray
    signal: FloatArray
    noise: FloatArray
    A: FloatArray
    B: FloatArray
    C: FloatArray
    D: FloatArray
    E: FloatArray | None = None
    F: FloatArray | None = None
    clip: float = 0.0
    init_noise: float = 1.0


@dataclass(frozen=True)
class Family:
    """One scheduler class: its options, its planner, and the arguments of `build` that it understands."""

    options: type[Any]
    plan: Callable[[Any, Request], Plan]
    takes: frozenset[str] = frozenset()


def descending(label: str, values: FloatArray) -> FloatArray:
    """The same values if they strictly decrease."""
    if (np.diff(values) >= 0).any():
        raise InputError(f"{label} must be strictly descending")
    return values


def training_timesteps(timesteps: FloatArray, count: int) -> FloatArray:
    """The same timesteps if they are whole, strictly decreasing and among the `count` training timesteps."""
    if (timesteps != np.round(timesteps)).any():
        raise InputError("timesteps must be whole numbers")
    return descending("timesteps", noise.checked(timesteps, count, "timesteps"))
