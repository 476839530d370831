"""Step tables against the schedulers' own step(): whole trajectories, same network, same noise."""

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
STEPS = (1, 4, 20, 50)
TOLERANCE = 1e-5

Network = Callable[[int, np.ndarray], np.ndarray]

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def make_network(seed: int, kind: str) -> Network:
    """Outputs drawn beforehand, or tanh of a random linear map of the state and the step."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(SHAPE))
    if kind == "drawn":
        outputs = rng.standard_normal((1000, *SHAPE), dtype=np.float32) if size else None
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
) -> None:
    table = build(config, steps, **arguments)
    for kind in ("drawn", "map"):
        rng = np.random.default_rng(seed + 1)
        initial, state = rng.standard_normal((2, *SHAPE), dtype=np.float32)
        noise = rng.standard_normal((steps, *SHAPE), dtype=np.float32)
        given_state = state if "start" in arguments else 0.0
        reference = Reference(config, steps, monkeypatch, exact=exact, **arguments)
        assert len(table) == len(reference.timesteps)
        np.testing.assert_array_equal(table.timestep.astype(np.float32), reference.timesteps.float().numpy())
        network = make_network(seed, kind)
        expected = reference.run(network, initial, noise, given_state)
        actual = execute(table, network, initial, noise, given_state)
        for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
            difference = float(np.abs(a - e).max() / np.abs(e).max())
            assert difference <= TOLERANCE, (
                f"{kind} network: state {i} of {steps} differs by {difference:.2e}"
            )


DDIM = {"_class_name": "DDIMScheduler", "clip_sample": False, **SD}
ZERO_SNR = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("eta", [0.0, 0.6])
def test_ddim(steps: int, spacing: str, prediction: str, eta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {**DDIM, "timestep_spacing": spacing, "prediction_type": prediction}
    compare(config, steps, monkeypatch, eta=eta)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({"steps_offset": 1, "set_alpha_to_one": False}, {}),
        ({"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}, {"eta": 1.0}),
        ({"beta_schedule": "squaredcos_cap_v2"}, {}),
        ({"clip_sample": True}, {"use_clipped_model_output": True}),
        ({"clip_sample": True, "clip_sample_range": 0.7}, {"use_clipped_model_output": True, "eta": 0.5}),
        (ZERO_SNR, {}),
        ({**ZERO_SNR, "prediction_type": "sample", "set_alpha_to_one": False}, {"eta": 0.3}),
        ({"num_train_timesteps": 100}, {}),
        ({}, {"start": 0.75}),
        ({"steps_offset": 1, "set_alpha_to_one": False}, {"start": 1.0, "eta": 0.2}),
    ],
)
def test_ddim_options(
    steps: int, options: dict[str, Any], arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if int(steps * arguments.get("start", 1)) == 0:
        pytest.skip("start leaves no step")
    compare({**DDIM, **options}, steps, monkeypatch, **arguments)


DDPM = {"_class_name": "DDPMScheduler", **SD}


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"clip_sample": False},
        {"clip_sample": False, "prediction_type": "v_prediction"},
        {"prediction_type": "sample", "clip_sample_range": 0.5},
        {"variance_type": "fixed_small_log"},
        {"variance_type": "fixed_large"},
        {"timestep_spacing": "linspace"},
        {"timestep_spacing": "trailing", "steps_offset": 3},
        {"steps_offset": 1, "variance_type": "fixed_large"},
        {"beta_schedule": "linear"},
        {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "sample", "clip_sample": False},
        {"beta_schedule": "sigmoid", "beta_start": 1e-4, "beta_end": 0.02},
        {"beta_schedule": "laplace"},
        {"trained_betas": np.linspace(1e-4, 0.03, 1000).tolist()},
        ZERO_SNR,
    ],
)
def test_ddpm(steps: int, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    # the cosine schedule starts so close to 1 that diffusers' float32 coefficients are off by more than 1e-5
    compare(
        {**DDPM, **options}, steps, monkeypatch, exact=options.get("beta_schedule") == "squaredcos_cap_v2"
    )


def test_ddpm_timesteps_and_start(monkeypatch: pytest.MonkeyPatch) -> None:
    compare({**DDPM, "clip_sample": False}, 4, monkeypatch, timesteps=[900, 510, 77, 3])
    compare({**DDPM, "clip_sample": False}, 20, monkeypatch, start=0.5)


DPM = {"_class_name": "DPMSolverMultistepScheduler", **SD}


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("algorithm", ["dpmsolver++", "sde-dpmsolver++"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"solver_order": 1},
        {"solver_type": "heun"},
        {"prediction_type": "v_prediction", "timestep_spacing": "trailing"},
        {"prediction_type": "sample", "timestep_spacing": "leading", "steps_offset": 1},
        {"final_sigmas_type": "sigma_min"},
        {"final_sigmas_type": "sigma_min", "lower_order_final": False},
        {"final_sigmas_type": "sigma_min", "solver_type": "heun", "euler_at_final": True},
        {"use_karras_sigmas": True},
        {"use_karras_sigmas": True, "beta_schedule": "squaredcos_cap_v2"},
        {"use_exponential_sigmas": True, "solver_type": "heun"},
        {"use_lu_lambdas": True},
        {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0},
        {"lambda_min_clipped": -5.1, "beta_schedule": "squaredcos_cap_v2"},
        ZERO_SNR,
    ],
)
def test_dpm(steps: int, algorithm: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    compare({**DPM, "algorithm_type": algorithm, **options}, steps, monkeypatch)


def test_dpm_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    compare(DPM, 4, monkeypatch, timesteps=[999, 500, 100, 7])
    compare(DPM, 20, monkeypatch, start=0.6)
    compare({**DPM, "solver_order": 3}, 3, monkeypatch)
    flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "use_dynamic_shifting": True}
    compare({**DPM, **flow}, 20, monkeypatch, mu=0.8)
