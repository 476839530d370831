"""CogVideoX's two samplers: CogVideoXDDIMScheduler and CogVideoXDPMScheduler of diffusers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from hoirt.errors import InputError
from hoirt.schedules import noise
from hoirt.schedules.options import Between
from hoirt.schedules.plan import Family, Plan, Request
from hoirt.schedules.table import FloatArray


@dataclass(frozen=True, kw_only=True)
class CogVideoXOptions(noise.NoiseOptions):
    """Options of both classes with the defaults of diffusers. Neither clips, whatever clip_sample says."""

    beta_start: noise.Beta = 0.00085
    beta_end: noise.Beta = 0.012
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "scaled_linear"
    snr_shift_scale: Annotated[float, Between(1e-3, 1e3)] = 3.0
    set_alpha_to_one: bool = True
    clip_sample: bool = True
    clip_sample_range: float = 1.0
    sample_max_value: float = 1.0


def ddim(o: CogVideoXOptions, request: Request) -> Plan:
    """x' = r x + (sqrt(p) - sqrt(a) r) x0 with r = sqrt((1 - p) / (1 - a)): DDIM without noise."""
    t, a, p = _levels(o, request)
    signal, level = np.sqrt(a), np.sqrt(1 - a)
    A, B = noise.prediction(o.prediction_type, signal, level)
    ratio = np.sqrt(1 - p) / level
    return Plan(timestep=t, signal=signal, noise=level, A=A, B=B, C=ratio, D=np.sqrt(p) - signal * ratio)


def dpm(o: CogVideoXOptions, request: Request) -> Plan:
    """SDE DPM-Solver++ of second order; of first order in the first row and in those that end at t < 0."""
    t, a, p = _levels(o, request)
    signal, level = np.sqrt(a), np.sqrt(1 - a)
    A, B = noise.prediction(o.prediction_type, signal, level)
    lam, lam_next = (
        np.log(signal / level),
        np.log(np.sqrt(p) / np.sqrt(1 - p)),
    )  # -inf without signal, inf at the end
    h = lam_next - lam
    decay = signal * np.sqrt(1 - p) / (level * np.sqrt(p))  # exp(-h)
    gain = np.sqrt(p) * (1 - decay**2)
    slope = np.zeros_like(gain)  # weight of x0 - x0_prev; 0 after a first row without signal
    second = t[1:] - o.num_train_timesteps // request.steps >= 0
    slope[1:] = np.where(second, gain[1:] * h[1:] / (2 * np.diff(lam)), 0.0)
    return Plan(
        timestep=t,
        signal=signal,
        noise=level,
        A=A,
        B=B,
        C=np.sqrt(1 - p) / level * decay,
        D=gain + slope,
        E=-slope,
        F=np.sqrt((1 - p) * np.maximum(1 - decay**2, 0.0)),
    )


def _levels(o: CogVideoXOptions, request: Request) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Timesteps, and the cumulative alphas before and after each row."""
    bar = _alphas_cumprod(o)
    t = noise.spaced(o, request.steps)[request.first_row() :]
    final = 1.0 if o.set_alpha_to_one else float(bar[0])
    return t, bar[t.astype(np.int64)], noise.previous(bar, t, o.num_train_timesteps // request.steps, final)


def _alphas_cumprod(o: CogVideoXOptions) -> FloatArray:
    """float64 for scaled_linear, else float32, as in diffusers; SNR shifted before it is rescaled to zero."""
    bar = noise.cumprod(1 - noise.betas(o, double=True))
    bar = bar / (o.snr_shift_scale + (1 - o.snr_shift_scale) * bar)
    if o.rescale_betas_zero_snr:
        bar = noise.zero_terminal_snr(bar)
    if bar[0] == 1:
        raise InputError(
            "the first beta is so small that the schedule has no noise there: use a larger beta_start"
        )
    return bar.astype(np.float64)


FAMILIES = {
    "CogVideoXDDIMScheduler": Family(CogVideoXOptions, ddim, frozenset({"dynamic_guidance"})),
    "CogVideoXDPMScheduler": Family(CogVideoXOptions, dpm, frozenset({"dynamic_guidance"})),
}
