"""DDPM ancestral sampling (Ho et al. 2020): diffusers' DDPMScheduler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from hoirt.schedules import noise
from hoirt.schedules.options import Between, Note, Only
from hoirt.schedules.plan import Family, Plan, Request, training_timesteps


@dataclass(frozen=True, kw_only=True)
class DDPMOptions(noise.NoiseOptions):
    """Options of DDPMScheduler with the defaults of diffusers."""

    variance_type: Annotated[
        Literal["fixed_small", "fixed_small_log", "fixed_large"],
        Note("learned variances need twice the output channels; fixed_large_log is NaN in diffusers too"),
    ] = "fixed_small"
    clip_sample: bool = True
    clip_sample_range: Annotated[float, Between(1e-6, 1e6)] = 1.0
    thresholding: Annotated[bool, Only("a per-image quantile is no constant of a row")] = False
    dynamic_thresholding_ratio: float = 0.995
    sample_max_value: float = 1.0


def plan(o: DDPMOptions, request: Request) -> Plan:
    """The posterior q(x_p | x_t, x0): mean from x0 and x, variance fixed; p is the next row's timestep."""
    bar = noise.alphas_cumprod(o)
    if request.timesteps is None:
        t = noise.spaced(o, request.steps)
    else:
        t = training_timesteps(request.timesteps, o.num_train_timesteps)
    t = t[request.first_row() :]
    a = bar[t.astype(np.int64)]
    p = np.append(a[1:], 1.0)
    beta = 1 - a / p
    variance = beta if o.variance_type == "fixed_large" else (1 - p) / (1 - a) * beta
    signal, level = np.sqrt(a), np.sqrt(1 - a)
    A, B = noise.prediction(o.prediction_type, signal, level)
    return Plan(
        timestep=t,
        signal=signal,
        noise=level,
        A=A,
        B=B,
        C=np.sqrt(a / p) * (1 - p) / (1 - a),
        D=np.sqrt(p) * beta / (1 - a),
        F=np.where(t > 0, np.sqrt(variance), 0.0),
        clip=o.clip_sample_range if o.clip_sample else 0.0,
    )


FAMILIES = {"DDPMScheduler": Family(DDPMOptions, plan, frozenset({"timesteps"}))}
