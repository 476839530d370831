"""Step tables against the schedulers' own step(): whole trajectories, same network, same noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hoirt.schedules import build
from hypothesis import given, settings
from hypothesis import strategies as st
from schedule_reference import SHAPE, TOLERANCE, compare, execute, make_network

diffusers = pytest.importorskip("diffusers")

# diffusers itself
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

STEPS = (1, 4, 20, 50)

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
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
        ({"steps_offset": 1, "set_alpha_to_one": False}, {"start": 1.0, "eta": 0.2}),
    ],
)
def test_ddim_options(
    steps: int, options: dict[str, Any], arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    compare({**DDIM, **options}, steps, monkeypatch, **arguments)
    if steps > 1:
        compare({**DDIM, **options}, steps, monkeypatch, **{**arguments, "start": 0.75})


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
    compare({**DPM, "solver_order": 3}, 4, monkeypatch)  # few enough steps never reach order 3
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


@pytest.mark.parametrize("name", ["DDIMScheduler", "DDPMScheduler", "CogVideoXDDIMScheduler"])
@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    data=st.data(),
    beta_start=st.floats(1e-5, 2e-3),
    beta_end=st.floats(2e-3, 0.04),
    schedule=st.sampled_from(["linear", "scaled_linear"]),
    prediction=st.sampled_from(["epsilon", "v_prediction", "sample"]),
    spacing=st.sampled_from(["leading", "linspace", "trailing"]),
    train=st.integers(50, 1200),
    seed=st.integers(0, 2**31),
)
def test_random_schedules(
    name: str,
    data: st.DataObject,
    beta_start: float,
    beta_end: float,
    schedule: str,
    prediction: str,
    spacing: str,
    train: int,
    seed: int,
) -> None:
    """Any betas, any number of steps: agrees with diffusers (its schedule held in float64)."""
    config: dict[str, Any] = {
        "_class_name": name,
        "beta_start": beta_start,
        "beta_end": beta_end,
        "beta_schedule": schedule,
        "prediction_type": prediction,
        "timestep_spacing": spacing,
        "num_train_timesteps": train,
        "clip_sample": False,
    }
    steps = data.draw(st.integers(1, min(train, 60)), label="steps")
    if spacing == "trailing" and len(np.arange(train, 0, -train / steps)) != steps:
        return  # diffusers runs one step too many, at timestep -1
    with pytest.MonkeyPatch.context() as monkeypatch:
        compare(config, steps, monkeypatch, seed=seed, exact=True)
