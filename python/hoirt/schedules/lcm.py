"""Latent consistency models (Luo et al. 2023): diffusers' LCMScheduler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from hoirt.errors import InputError
from hoirt.schedules import noise
from hoirt.schedules.options import Between, Only
from hoirt.schedules.plan import Family, Plan, Request, training_timesteps
from hoirt.schedules.table import FloatArray

_SIGMA_DATA = 0.5


@dataclass(frozen=True, kw_only=True)
class LCMOptions(noise.NoiseOptions):
    """Options of LCMScheduler with the defaults of diffusers.

    As in diffusers, set_alpha_to_one, steps_offset and timestep_spacing have no effect.
    """

    beta_start: noise.Beta = 0.00085
    beta_end: noise.Beta = 0.012
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "scaled_linear"
    original_inference_steps: Annotated[int, Between(1, noise.MAX_TRAIN_STEPS)] = 50
    timestep_scaling: Annotated[float, Between(1e-6, 1e6)] = 10.0
    set_alpha_to_one: bool = True
    clip_sample: bool = False
    clip_sample_range: Annotated[float, Between(1e-6, 1e6)] = 1.0
    thresholding: Annotated[bool, Only("a per-image quantile is no constant of a row")] = False
    dynamic_thresholding_ratio: float = 0.995
    sample_max_value: float = 1.0


def plan(o: LCMOptions, request: Request) -> Plan:
    """x' = sqrt(p) (c_out x0 + c_skip x) + sqrt(1 - p) n; the last row is c_out x0 + c_skip x."""
    bar = noise.alphas_cumprod(o)
    t = _timesteps(o, request)
    a = bar[t.astype(np.int64)]
    p = np.append(a[1:], 1.0)
    scaled = t * o.timestep_scaling
    c_skip = _SIGMA_DATA**2 / (scaled**2 + _SIGMA_DATA**2)
    c_out = scaled / np.sqrt(scaled**2 + _SIGMA_DATA**2)
    signal, level = np.sqrt(a), np.sqrt(1 - a)
    A, B = noise.prediction(o.prediction_type, signal, level)
    return Plan(
        timestep=t,
        signal=signal,
        noise=level,
        A=A,
        B=B,
        C=np.sqrt(p) * c_skip,
        D=np.sqrt(p) * c_out,
        F=np.sqrt(1 - p),
        clip=o.clip_sample_range if o.clip_sample else 0.0,
    )


def _timesteps(o: LCMOptions, request: Request) -> FloatArray:
    """Picked evenly from the distillation's timesteps; `start` shortens that list, not the steps."""
    count, original, steps = o.num_train_timesteps, o.original_inference_steps, request.steps
    if request.timesteps is not None:
        if request.start is not None:
            raise InputError(
                "LCMScheduler: timesteps= and start= exclude each other; give the timesteps to run"
            )
        return training_timesteps(request.timesteps, count)
    if original > count:
        raise InputError(f"original_inference_steps={original} exceeds num_train_timesteps={count}")
    distilled = np.arange(1, int(original * (1.0 if request.start is None else request.start)) + 1)
    if steps > len(distilled):
        raise InputError(
            f"steps={steps} exceeds original_inference_steps x start = {len(distilled)} of LCMScheduler: "
            "use fewer steps, a larger start or a larger original_inference_steps"
        )
    index = np.floor(np.linspace(0, len(distilled), steps, endpoint=False)).astype(np.int64)
    return (distilled[::-1] * (count // original) - 1)[index].astype(np.float64)


FAMILIES = {"LCMScheduler": Family(LCMOptions, plan, frozenset({"timesteps"}))}
