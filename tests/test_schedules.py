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
        outputs = rng.standard_normal((64, *SHAPE), dtype=np.float32)
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
            arguments["sigmas"] = [*arguments["sigmas"], 0.0]  # a table's final sigma is an option, not in the list
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
        # whole timesteps are exact; fractional ones are float32 logarithms and may differ in the last digit
        np.testing.assert_allclose(table.timestep, reference.timesteps.double().numpy(), rtol=3e-7, atol=1e-6)
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


EULER = {"_class_name": "EulerDiscreteScheduler", **SD}


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prediction_type": "v_prediction", "steps_offset": 1},
        {"prediction_type": "sample"},
        {"use_karras_sigmas": True},
        {"use_karras_sigmas": True, "sigma_min": 0.01, "sigma_max": 40.0},
        {"use_exponential_sigmas": True, "final_sigmas_type": "sigma_min"},
        {"use_karras_sigmas": True, "timestep_type": "continuous", "prediction_type": "v_prediction"},
        {"beta_schedule": "squaredcos_cap_v2"},
    ],
)
def test_euler(steps: int, spacing: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    compare({**EULER, "timestep_spacing": spacing, **options}, steps, monkeypatch)


def test_euler_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    compare(EULER, 4, monkeypatch, timesteps=[999, 500.5, 100, 7])
    compare(EULER, 4, monkeypatch, sigmas=[12.0, 3.0, 1.0, 0.2])
    compare(EULER, 20, monkeypatch, start=0.55)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
def test_euler_zero_snr(steps: int, spacing: str) -> None:
    """Against Euler's formula in float64: step() in float32 loses 2e-4 to its first sigma of 4096."""
    options = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": spacing}
    table = build({**EULER, **options}, steps)
    scheduler = diffusers.EulerDiscreteScheduler(**SD, **options)
    scheduler.set_timesteps(steps)
    sigma = scheduler.sigmas.double().numpy()
    initial = np.random.default_rng(3).standard_normal(SHAPE, dtype=np.float32)
    network = make_network(4, "map")
    x = initial.astype(np.float64) * float(scheduler.init_noise_sigma)
    expected = [x / np.hypot(sigma[0], 1)]
    for i in range(steps):
        v = network(i, expected[-1].astype(np.float32))
        x0 = x / (sigma[i] ** 2 + 1) - v * sigma[i] / np.hypot(sigma[i], 1)
        x = x + (x - x0) / sigma[i] * (sigma[i + 1] - sigma[i])
        expected.append(x / np.hypot(sigma[i + 1], 1))
    actual = execute(table, network, initial, np.zeros((steps, *SHAPE), np.float32))
    for a, e in zip(actual, expected, strict=True):
        assert np.abs(a - e).max() <= TOLERANCE * np.abs(e).max()


LCM = {"_class_name": "LCMScheduler"}


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"clip_sample": True},
        {"prediction_type": "v_prediction"},
        {"prediction_type": "sample", "original_inference_steps": 100, "timestep_scaling": 3.0},
        {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
    ],
)
def test_lcm(steps: int, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    compare({**LCM, **options}, steps, monkeypatch)


def test_lcm_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    compare(LCM, 4, monkeypatch, start=0.6)
    compare(LCM, 3, monkeypatch, timesteps=[999, 459, 19])


FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler"}


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({}, {}),
        ({"shift": 3.0}, {}),
        ({"shift": 3.0, "use_karras_sigmas": True}, {}),
        ({"use_exponential_sigmas": True}, {}),
        ({"use_dynamic_shifting": True}, {"mu": 0.4597}),
        ({"use_dynamic_shifting": True, "time_shift_type": "linear"}, {"mu": 2.0}),
        ({"shift": 2.0, "stochastic_sampling": True}, {}),
        ({"shift": 3.0}, {"start": 0.63}),
    ],
)
def test_flow(
    steps: int, options: dict[str, Any], arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    compare({**FLOW, **options}, steps, monkeypatch, **arguments)


def test_flow_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    compare({**FLOW, "shift_terminal": 0.1, "use_dynamic_shifting": True}, 20, monkeypatch, mu=1.1)
    compare(FLOW, 4, monkeypatch, sigmas=[1.0, 0.7, 0.4, 0.2])
    compare({**FLOW, "shift": 2.0}, 4, monkeypatch, timesteps=[1000, 700, 400.5, 200])
    compare(FLOW, 2, monkeypatch, sigmas=[1.0, 0.5], timesteps=[1000.0, 300.0])


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", ["CogVideoXDDIMScheduler", "CogVideoXDPMScheduler"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prediction_type": "v_prediction", "snr_shift_scale": 1.0},
        {**ZERO_SNR, "snr_shift_scale": 1.0},
        ZERO_SNR,
        {"prediction_type": "sample", "set_alpha_to_one": False, "timestep_spacing": "linspace"},
        {"steps_offset": 1, "set_alpha_to_one": False, "beta_schedule": "linear"},
        {"beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "trailing", "prediction_type": "sample"},
    ],
)
def test_cogvideox(steps: int, name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    compare({"_class_name": name, **options}, steps, monkeypatch)
    if steps > 1:
        compare({"_class_name": name, **options}, steps, monkeypatch, start=0.5)
