"""Noise schedules: betas, cumulative alphas, sigmas, and how steps are spaced over the training timesteps.

Diffusers computes betas and cumulative alphas in float32. That rounding is reproduced here: near t = 0 it
moves 1 - alphas_cumprod (about 1e-3) by up to 7e-5 of itself, more than the 1e-5 to which trajectories must
agree. (Only the square root of rescale_betas_zero_snr cannot be reproduced to the last digit: torch's own
rounding of it depends on the machine.) Everything after the rounded schedule is float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import InputError
from hoirt.schedules.options import Between
from hoirt.schedules.table import FloatArray

MAX_TRAIN_STEPS = 100_000

Floats: TypeAlias = NDArray[np.floating[Any]]
Spacing: TypeAlias = Literal["leading", "linspace", "trailing"]
Prediction: TypeAlias = Literal["epsilon", "sample", "v_prediction"]
Beta: TypeAlias = Annotated[float, Between(1e-9, 1.0)]


@dataclass(frozen=True, kw_only=True)
class NoiseOptions:
    """The options that every beta schedule has, with the defaults of diffusers."""

    num_train_timesteps: Annotated[int, Between(1, MAX_TRAIN_STEPS)] = 1000
    beta_start: Beta = 0.0001
    beta_end: Beta = 0.02
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2", "laplace", "sigmoid"] = "linear"
    trained_betas: Annotated[tuple[float, ...] | None, Between(1e-9, 1.0)] = None
    rescale_betas_zero_snr: bool = False
    prediction_type: Prediction = "epsilon"
    timestep_spacing: Spacing = "leading"
    steps_offset: Annotated[int, Between(0, MAX_TRAIN_STEPS)] = 0


def betas(o: NoiseOptions, *, double: bool = False) -> Floats:
    """Shape (num_train_timesteps,), float32; float64 for scaled_linear with `double` (CogVideoX)."""
    count = o.num_train_timesteps
    if o.trained_betas is not None:
        if len(o.trained_betas) != count:
            raise InputError(
                f"trained_betas must have num_train_timesteps = {count} entries, got {len(o.trained_betas)}"
            )
        return np.array(o.trained_betas, dtype=np.float32)
    if o.beta_schedule == "linear":
        return _linspace(o.beta_start, o.beta_end, count)
    if o.beta_schedule == "scaled_linear":
        start, end = math.sqrt(o.beta_start), math.sqrt(o.beta_end)
        return np.linspace(start, end, count) ** 2 if double else np.square(_linspace(start, end, count))
    if o.beta_schedule == "sigmoid":
        curve = 1 / (1 + np.exp(-_linspace(-6.0, 6.0, count).astype(np.float64)))
        return curve.astype(np.float32) * np.float32(o.beta_end - o.beta_start) + np.float32(o.beta_start)
    bar = _cosine_bar if o.beta_schedule == "squaredcos_cap_v2" else _laplace_bar
    value = bar(np.arange(count + 1) / count)
    return np.minimum(1 - value[1:] / value[:-1], 0.999).astype(np.float32)


def alphas_cumprod(o: NoiseOptions) -> FloatArray:
    """Signal power at every training timestep, decreasing; the last is 0 if rescale_betas_zero_snr."""
    beta = betas(o)
    if o.rescale_betas_zero_snr:
        bar = zero_terminal_snr(cumprod(1 - beta))
        beta = 1 - np.concatenate([bar[:1], bar[1:] / bar[:-1]])
    result = cumprod(1 - beta).astype(np.float64)
    if result[0] == 1:
        raise InputError(
            "the first beta is so small that the schedule has no noise there: use a larger beta_start"
        )
    return result


def cumprod(alphas: Floats) -> Floats:
    """Cumulative product, summed up in float64 and rounded to the type of `alphas`, as torch does."""
    return np.cumprod(alphas, dtype=np.float64).astype(alphas.dtype)


def zero_terminal_snr(bar: Floats) -> Floats:
    """alphas_cumprod with its root shifted and scaled: the first stays, the last is 0 (Lin et al. 2023)."""
    root = np.sqrt(bar)
    if len(root) < 2 or root[0] == root[-1]:
        raise InputError("rescale_betas_zero_snr needs at least two different training timesteps")
    result: Floats = np.square((root - root[-1]) * (root[0] / (root[0] - root[-1])))
    return result


def spaced(o: NoiseOptions, steps: int) -> FloatArray:
    """Training timesteps from noisy to clean, shape (steps,): DDIM, DDPM, Euler and CogVideoX."""
    count = o.num_train_timesteps
    if o.timestep_spacing == "linspace":
        return np.linspace(0, count - 1, steps).round()[::-1].copy()
    if o.timestep_spacing == "leading":
        return checked(
            np.arange(float(steps))[::-1] * (count // steps) + o.steps_offset, count, "steps_offset"
        )
    # diffusers' arange may run one entry too far; the first `steps` are meant
    return np.round(np.arange(float(count), 0, -count / steps))[:steps] - 1


def checked(timesteps: FloatArray, count: int, option: str) -> FloatArray:
    """The same timesteps if all are among the `count` training timesteps."""
    if timesteps.max() > count - 1 or timesteps.min() < 0:
        raise InputError(
            f"{option}: timesteps run from {timesteps.max():g} to {timesteps.min():g}, but the schedule only "
            f"has 0 .. {count - 1}; use another {option} or number of steps"
        )
    return timesteps


def previous(bar: FloatArray, timesteps: FloatArray, stride: int, final: float) -> FloatArray:
    """Cumulative alpha at t - stride, which need not be the next row's timestep (trailing, linspace)."""
    index = timesteps.astype(np.int64) - stride
    return np.where(index >= 0, bar[np.maximum(index, 0)], final)


def prediction(kind: str, signal: FloatArray, noise: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A and B of x0 = A x + B out for a state x = signal x0 + noise n, signal^2 + noise^2 = 1."""
    if kind == "sample":
        return np.zeros_like(signal), np.ones_like(signal)
    if kind == "v_prediction":
        return signal, -noise
    if (signal == 0).any():
        raise InputError(
            "prediction_type 'epsilon' cannot give x0 at a timestep without signal (zero terminal SNR): use "
            "prediction_type 'v_prediction' or 'sample', rescale_betas_zero_snr false, smaller betas or a "
            "spacing that leaves out the last training timestep"
        )
    return 1 / signal, -noise / signal


def sigmas(bar: FloatArray) -> FloatArray:
    """Noise-to-signal ratio at every training timestep, increasing, rounded to float32 as in diffusers."""
    if (bar <= 0).any():
        raise InputError(
            f"the betas leave no signal from timestep {int(np.argmax(bar <= 0))} on: use smaller betas"
        )
    return single(np.sqrt((1 - bar) / bar))


def single(x: FloatArray) -> FloatArray:
    """Rounded to float32, kept as float64."""
    return x.astype(np.float32).astype(np.float64)


def karras(high: float, low: float, steps: int) -> FloatArray:
    """Karras et al. 2022, eq. (5), rho = 7."""
    ramp = np.linspace(0, 1, steps)
    return np.asarray((high ** (1 / 7) + ramp * (low ** (1 / 7) - high ** (1 / 7))) ** 7.0)


def exponential(high: float, low: float, steps: int) -> FloatArray:
    """Evenly spaced in log sigma."""
    return np.exp(np.linspace(math.log(high), math.log(low), steps))


def sigma_to_timestep(values: FloatArray, table: FloatArray) -> FloatArray:
    """Fractional training timestep of each sigma: linear in log sigma, clamped to the table.

    The logarithms of the table are float32 as in diffusers, which truncates 998.9999 to 998 in some samplers.
    """
    logs, wanted = np.log(table.astype(np.float32)), np.log(np.maximum(values, 1e-10))
    low = np.clip(np.searchsorted(logs, wanted, side="right") - 1, 0, len(logs) - 2)
    weight = np.clip((logs[low] - wanted) / (logs[low] - logs[low + 1]), 0.0, 1.0)
    return np.asarray((1 - weight) * low + weight * (low + 1), dtype=np.float64)


def _linspace(start: float, end: float, count: int) -> Floats:
    """float32 linspace from both ends to the middle with fused multiply-add, which is torch's rounding."""
    a, b = np.float32(start), np.float32(end)
    if count == 1:
        return np.array([a])
    a64, b64, step = float(a), float(b), float((b - a) / np.float32(count - 1))
    i = np.arange(count)
    return np.where(i < count // 2, a64 + step * i, b64 - step * (count - 1 - i)).astype(np.float32)


def _cosine_bar(t: FloatArray) -> FloatArray:
    return np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2


def _laplace_bar(t: FloatArray) -> FloatArray:
    log_snr = -0.5 * np.copysign(1, 0.5 - t) * np.log(1 - 2 * np.abs(0.5 - t) + 1e-6)
    snr = np.exp(log_snr)
    return np.asarray(np.sqrt(snr / (1 + snr)))
