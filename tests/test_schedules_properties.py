"""Properties of step tables: options, noise levels, HandRefiner's masked DDIM, zero terminal SNR."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math

import numpy as np
import pytest
from hoirt import InputError
from hoirt.schedules import build, names
from hoirt.schedules.build import FAMILIES
from schedule_reference import SHAPE, TOLERANCE, make_network

diffusers = pytest.importorskip("diffusers")

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
DDIM = {"_class_name": "DDIMScheduler", "clip_sample": False, **SD}
ZERO_SNR = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}
KNOWN = {
    "CogVideoXDDIMScheduler": {},
    "CogVideoXDPMScheduler": {},
    "DDIMScheduler": {"clip_sample": False, "steps_offset": 1},
    "DDPMScheduler": {"clip_sample": False},
    "DPMSolverMultistepScheduler": {},
    "EulerDiscreteScheduler": {"timestep_spacing": "leading", "steps_offset": 1},
    "FlowMatchEulerDiscreteScheduler": {"shift": 3.0},
}


def test_names_are_complete() -> None:
    assert {*KNOWN, "LCMScheduler"} == set(names())


@pytest.mark.parametrize("name", names())
def test_options_and_defaults_are_those_of_diffusers(name: str) -> None:
    """No option of the class is unknown here, and leaving it out means the same."""
    parameters = inspect.signature(getattr(diffusers, name).__init__).parameters
    ours = {f.name: f.default for f in dataclasses.fields(FAMILIES[name].options)}
    theirs = {k: p.default for k, p in parameters.items() if k != "self"}
    assert theirs == {k: v for k, v in ours.items() if k in theirs}
    assert set(theirs) == set(ours)


@pytest.mark.parametrize("name", names())
def test_saved_config_is_understood(name: str) -> None:
    scheduler = getattr(diffusers, name)(**KNOWN.get(name, {}))
    config = json.loads(scheduler.to_json_string())
    before = json.dumps(config)
    table = build(config, np.int64(5), guidance=np.float32(2.5))
    assert table == build({"_class_name": name, **KNOWN.get(name, {})}, 5, guidance=2.5)
    assert json.dumps(config) == before
    assert (table.guidance == 2.5).all() and (table.control == 1).all()
    assert not table.known.any() and table.init_known is None


@pytest.mark.parametrize("steps", [4, 20, 50])
@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("name", KNOWN)
def test_coefficients_keep_the_level(name: str, eta: float, steps: int) -> None:
    """A state sqrt-mixed from x0 and n stays so: signal' = C signal + D + E and noise'^2 = (C noise)^2 + F^2.

    The levels come from the known region, which is noised to the same ones.
    """
    arguments = {"eta": eta} if name == "DDIMScheduler" else {}
    table = build({"_class_name": name, **KNOWN[name]}, steps, known_region=True, **arguments)
    signal = np.append(table.init_known[0], table.G[:-1])
    noise = np.append(table.init_known[1], table.H[:-1])
    np.testing.assert_allclose((table.C * signal + table.D + table.E)[:-1], table.G[:-1], rtol=1e-12)
    np.testing.assert_allclose(np.hypot(table.C * noise, table.F)[:-1], table.H[:-1], rtol=1e-9)
    np.testing.assert_allclose(table.A * signal + table.B * _target(name, signal, noise)[0], 1, atol=1e-9)
    np.testing.assert_allclose(table.A * noise + table.B * _target(name, signal, noise)[1], 0, atol=1e-9)


def _target(name: str, signal: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What an exact network answers, as multiples of x0 and n: n, or n - x0 for flow."""
    x0 = -np.ones_like(signal) if name.startswith("Flow") else np.zeros_like(signal)
    return x0, np.ones_like(noise)


def test_handrefiner() -> None:
    """Against HandRefiner's own order: the known region is noised to the current level before the network."""
    config = {**DDIM, "steps_offset": 1, "set_alpha_to_one": False}
    steps = 50
    table = build(config, steps, guidance=9.0, known_region=True)
    bar = np.cumprod(1 - np.linspace(math.sqrt(8.5e-4), math.sqrt(1.2e-2), 1000) ** 2)
    assert np.allclose(bar[[0, 481, 981]], [0.99915, 0.302295661, 0.0057755], rtol=1e-7)
    timesteps = np.arange(0, 1000, 20) + 1
    previous = np.append(bar[0], bar[timesteps[:-1]])
    np.testing.assert_array_equal(table.timestep, timesteps[::-1])
    assert table.noise_streams == 2 + steps - 1 and (table.guidance == 9).all()

    rng = np.random.default_rng(7)
    z, initial = rng.standard_normal((2, *SHAPE))
    mask = (rng.random((SHAPE[0], 1, *SHAPE[2:])) > 0.5).astype(float)
    fresh = rng.standard_normal((steps, *SHAPE))
    network = make_network(8, "map")

    x = initial
    for i, index in enumerate(range(steps - 1, -1, -1)):
        a, p = bar[timesteps[index]], previous[index]
        x = mask * x + (1 - mask) * (math.sqrt(a) * z + math.sqrt(1 - a) * fresh[i])
        e = network(i, x)
        x = math.sqrt(p) * (x - math.sqrt(1 - a) * e) / math.sqrt(a) + math.sqrt(1 - p) * e

    assert table.init_known is not None
    y = table.init_signal * z + table.init_noise * initial
    y = mask * y + (1 - mask) * (table.init_known[0] * z + table.init_known[1] * fresh[0])
    for i in range(steps):
        x0 = table.A[i] * y + table.B[i] * network(i, y)
        y = table.C[i] * y + table.D[i] * x0
        if table.known[i]:
            y = mask * y + (1 - mask) * (table.G[i] * z + table.H[i] * fresh[i + 1])
    assert np.abs(y - x).max() <= TOLERANCE * np.abs(x).max()


def test_dynamic_guidance() -> None:
    """Values that the pipeline's formula gives for 50 trailing steps and scale 6; each within 1 .. 7."""
    config = {"_class_name": "CogVideoXDPMScheduler", **ZERO_SNR, "snr_shift_scale": 1.0}
    table = build(config, 50, guidance=6.0, dynamic_guidance=True)
    expected = [2.29, 2.54, 6.97, 6.42, 2.79, 4.27, 1.04]
    np.testing.assert_allclose(table.guidance[: len(expected)], expected, atol=6e-3)
    np.testing.assert_allclose(table.guidance[-4:], [1.064, 1.0000005, 1.000004, 1.12], atol=5e-3)
    assert table.guidance.min() >= 1 and table.guidance.max() <= 7


@pytest.mark.parametrize("name", [n for n in names() if not n.startswith("Flow")])  # flow has no betas
@pytest.mark.parametrize("steps", [1, 4, 50])
def test_zero_terminal_snr_is_finite(name: str, steps: int) -> None:
    config = {"_class_name": name, "timestep_spacing": "trailing", "rescale_betas_zero_snr": True}
    if name in ("DDIMScheduler", "DDPMScheduler"):
        config["clip_sample"] = False
    for prediction in ("v_prediction", "sample"):
        table = build(
            {**config, "prediction_type": prediction}, steps
        )  # StepTable refuses what is not finite
        assert table.timestep[0] == 999
    if name in ("DPMSolverMultistepScheduler", "EulerDiscreteScheduler"):
        assert build(config, steps).A[0] == pytest.approx(4096)  # diffusers keeps 2^-24 of the signal
    else:
        with pytest.raises(InputError, match=r"prediction_type 'v_prediction'.*rescale_betas_zero_snr false"):
            build(config, steps)
