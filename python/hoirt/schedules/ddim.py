"""DDIM (Song et al. 2021), deterministic or stochastic: diffusers' DDIMScheduler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from hoirt.errors import InputError
from hoirt.schedules import noise
from hoirt.schedules.options import Between, Only
from hoirt.schedules.plan import Family, Plan, Request


@dataclass(frozen=True, kw_only=True)
class DDIMOptions(noise.NoiseOptions):
    """Options of DDIMScheduler with the defaults of diffusers."""

    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "linear"
    set_alpha_to_one: bool = True
    clip_sample: bool = True
    clip_sample_range: Annotated[float, Between(1e-6, 1e6)] = 1.0
    thresholding: Annotated[bool, Only("a per-image quantile is no constant of a row")] = False
    dynamic_thresholding_ratio: float = 0.995
    sample_max_value: float = 1.0


def plan(o: DDIMOptions, request: Request) -> Plan:
    """x' = sqrt(p) x0 + sqrt(1 - p - s^2) eps + s n, with eps = (x - sqrt(a) x0) / sqrt(1 - a)."""
    bar = noise.alphas_cumprod(o)
    t = noise.spaced(o, request.steps)[request.first_row() :]
    a = bar[t.astype(np.int64)]
    p = noise.previous(
        bar, t, o.num_train_timesteps // request.steps, 1.0 if o.set_alpha_to_one else float(bar[0])
    )
    s = request.eta * np.sqrt((1 - p) / (1 - a) * (1 - a / p))
    direction = np.sqrt(np.maximum(1 - p - s**2, 0.0))
    if o.clip_sample and not request.use_clipped_model_output and direction.any():
        raise InputError(
            "DDIMScheduler: clip_sample=True (the default of diffusers) keeps eps from before the clipping, "
            "which is not a function of x and the clipped x0: set clip_sample to false, or pass "
            "use_clipped_model_output=True"
        )
    signal, level = np.sqrt(a), np.sqrt(1 - a)
    A, B = noise.prediction(o.prediction_type, signal, level)
    C = direction / level
    clip = o.clip_sample_range if o.clip_sample else 0.0
    return Plan(
        timestep=t, signal=signal, noise=level, A=A, B=B, C=C, D=np.sqrt(p) - C * signal, F=s, clip=clip
    )


FAMILIES = {"DDIMScheduler": Family(DDIMOptions, plan, frozenset({"eta", "use_clipped_model_output"}))}
