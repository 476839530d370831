"""Runs a step table, and the diffusers scheduler it stands for, on the same network and noise."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hoirt.schedules import StepTable, build

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

SHAPE = (2, 4, 3, 3)
STEPS_MAX = 64
TOLERANCE = 1e-5

Network = Callable[[int, np.ndarray], np.ndarray]


def make_network(seed: int, kind: str) -> Network:
    """Outputs drawn beforehand, or tanh of a random linear map of the state and the step."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(SHAPE))
    if kind == "drawn":
        outputs = rng.standard_normal((STEPS_MAX, *SHAPE), dtype=np.float32)
        return lambda i, x: outputs[i]
    weight = rng.standard_normal((size, size)) / math.sqrt(size)
    return lambda i, x: (
        np.tanh(weight @ x.astype(np.float64).ravel() + np.sin(i)).reshape(SHAPE).astype(np.float32)
    )


def execute(
    table: StepTable,
    network: Network,
    initial: np.ndarray,
    noise: np.ndarray,
    given_state: np.ndarray | float = 0.0,
) -> list[np.ndarray]:
    """The loop in float32: the state before the first and after every row. noise: (S, ...)."""
    f = np.float32
    x = f(table.init_signal) * f(given_state) + f(table.init_noise) * initial
    states, x0_prev = [x], np.zeros_like(initial)
    for i in range(len(table)):
        out = network(i, x)
        x0 = f(table.A[i]) * x + f(table.B[i]) * out
        if table.clip[i] > 0:
            x0 = np.clip(x0, -f(table.clip[i]), f(table.clip[i]))
        x = f(table.C[i]) * x + f(table.D[i]) * x0 + f(table.E[i]) * x0_prev + f(table.F[i]) * noise[i]
        x0_prev = x0
        states.append(x)
    return states


class Reference:
    """A diffusers scheduler driven as its pipelines do, its noise replaced by ours.

    exact: its (rounded) schedule is held in float64, so that step() loses no digits in 1 - alphas_cumprod.
    """

    def __init__(
        self,
        config: dict[str, Any],
        steps: int,
        monkeypatch: pytest.MonkeyPatch,
        *,
        exact: bool = False,
        **arguments: Any,
    ) -> None:
        name = config["_class_name"]
        self.scheduler = getattr(diffusers, name)(
            **{k: v for k, v in config.items() if not k.startswith("_")}
        )
        self.eta = arguments.pop("eta", None)
        self.clipped = arguments.pop("use_clipped_model_output", None)
        self.start = arguments.pop("start", None)
        if exact:
            self.scheduler.alphas_cumprod = self.scheduler.alphas_cumprod.double()
        self.first = 0
        if self.start is not None:
            if name == "LCMScheduler":
                arguments["strength"] = self.start
            elif name == "FlowMatchEulerDiscreteScheduler":
                self.first = int(max(steps - min(steps * self.start, steps), 0))
            else:
                self.first = max(steps - min(int(steps * self.start), steps), 0)
        if name == "EulerDiscreteScheduler" and "sigmas" in arguments:
            arguments["sigmas"] = [
                *arguments["sigmas"],
                0.0,
            ]  # a table's final sigma is an option, not in the list
        count = None if {"timesteps", "sigmas"} & set(arguments) else steps
        self.scheduler.set_timesteps(count, **arguments)
        if hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(self.first)
        self.timesteps = self.scheduler.timesteps[self.first : self.first + steps]
        module = importlib.import_module(type(self.scheduler).__module__)
        if hasattr(module, "randn_tensor"):
            monkeypatch.setattr(module, "randn_tensor", lambda *a, **k: torch.from_numpy(self.current_noise))
        self.current_noise = np.zeros(SHAPE, np.float32)

    def _start(self, initial: np.ndarray, given_state: np.ndarray | float) -> Any:
        noise = torch.from_numpy(initial)
        if self.start is None:
            return noise * getattr(self.scheduler, "init_noise_sigma", 1.0)
        add = getattr(self.scheduler, "scale_noise", None)
        if add is not None:
            return add(torch.from_numpy(given_state), self.timesteps[:1], noise)
        return self.scheduler.add_noise(torch.from_numpy(given_state), noise, self.timesteps[:1])

    def _vp(self, x: Any, i: int) -> np.ndarray:
        """Euler's state is x0 + sigma n; the table's is divided by sqrt(1 + sigma^2)."""
        if type(self.scheduler).__name__ != "EulerDiscreteScheduler":
            return x.numpy()
        return (x / (self.scheduler.sigmas[self.first + i] ** 2 + 1) ** 0.5).numpy()

    def run(
        self, network: Network, initial: np.ndarray, noise: np.ndarray, given_state: np.ndarray | float = 0.0
    ) -> list[np.ndarray]:
        x = self._start(initial, given_state)
        states, old = [self._vp(x, 0)], None
        extra: dict[str, Any] = {}
        if self.eta is not None:
            extra["eta"] = self.eta
        if self.clipped is not None:
            extra["use_clipped_model_output"] = self.clipped
        for i, t in enumerate(self.timesteps):
            self.current_noise = noise[i]
            model_input = x
            if type(self.scheduler).__name__ == "EulerDiscreteScheduler":
                model_input = self.scheduler.scale_model_input(x, t)
            out = torch.from_numpy(network(i, model_input.numpy()))
            if type(self.scheduler).__name__ == "CogVideoXDPMScheduler":
                back = self.timesteps[i - 1] if i > 0 else None
                x, old = self.scheduler.step(out, old, t, back, x)
                x = x.float()
            else:
                x = self.scheduler.step(out, t, x, return_dict=False, **extra)[0].float()
            states.append(self._vp(x, i + 1))
        return states


def compare(
    config: dict[str, Any],
    steps: int,
    monkeypatch: pytest.MonkeyPatch,
    seed: int = 0,
    exact: bool = False,
    **arguments: Any,
) -> float:
    """Asserts that every state of both runs agrees to TOLERANCE of its largest entry; returns the worst."""
    table = build(config, steps, **arguments)
    worst = 0.0
    for kind in ("drawn", "map"):
        rng = np.random.default_rng(seed + 1)
        initial, state = rng.standard_normal((2, *SHAPE), dtype=np.float32)
        noise = rng.standard_normal((steps, *SHAPE), dtype=np.float32)
        given_state = state if "start" in arguments else 0.0
        reference = Reference(config, steps, monkeypatch, exact=exact, **arguments)
        assert len(table) == len(reference.timesteps)
        # whole timesteps are exact; fractional ones are float32 logarithms and may differ in the last digit
        np.testing.assert_allclose(table.timestep, reference.timesteps.double().numpy(), rtol=3e-7, atol=1e-6)
        network = make_network(seed, kind)
        expected = reference.run(network, initial, noise, given_state)
        actual = execute(table, network, initial, noise, given_state)
        for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
            difference = float(np.abs(a - e).max() / np.abs(e).max())
            worst = max(worst, difference)
            assert difference <= TOLERANCE, (
                f"{kind} network: state {i} of {steps} differs by {difference:.2e}"
            )
    return worst
