"""Rectified flow, Euler: diffusers' FlowMatchEulerDiscreteScheduler (SD3, Flux).

The state is x = (1 - s) x0 + s n with s from 1 to 0, which is what these networks see; its variance varies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from hoirt.errors import InputError
from hoirt.schedules import noise
from hoirt.schedules.options import Between, Only
from hoirt.schedules.plan import Family, Plan, Request, descending
from hoirt.schedules.table import FloatArray


@dataclass(frozen=True, kw_only=True)
class FlowOptions:
    """Options of FlowMatchEulerDiscreteScheduler with the defaults of diffusers.

    base_shift, max_shift and the sequence lengths only serve its pipelines to compute `mu`.
    """

    num_train_timesteps: Annotated[int, Between(1, noise.MAX_TRAIN_STEPS)] = 1000
    shift: Annotated[float, Between(1e-3, 1e3)] = 1.0
    use_dynamic_shifting: bool = False
    time_shift_type: Literal["exponential", "linear"] = "exponential"
    base_shift: float | None = 0.5
    max_shift: float | None = 1.15
    base_image_seq_len: Annotated[int | None, Between(0, 2**31)] = 256
    max_image_seq_len: Annotated[int | None, Between(0, 2**31)] = 4096
    shift_terminal: Annotated[float | None, Between(0.0, 0.999)] = None
    use_karras_sigmas: bool | None = False
    use_exponential_sigmas: bool | None = False
    use_beta_sigmas: Annotated[bool | None, Only("use_karras_sigmas and use_exponential_sigmas exist")] = (
        False
    )
    invert_sigmas: Annotated[bool, Only("the state must go from noise to data")] = False
    stochastic_sampling: bool = False


def plan(o: FlowOptions, request: Request) -> Plan:
    """x' = x + (s' - s) out = (s'/s) x + (1 - s'/s) x0, x0 = x - s out; or stochastic: (1 - s') x0 + s' n."""
    t, sigma = _schedule(o, request)
    s, after = sigma, np.append(sigma[1:], 0.0)
    stochastic = o.stochastic_sampling
    return Plan(
        timestep=t,
        signal=1 - s,
        noise=s,
        A=np.ones_like(s),
        B=-s,
        C=np.zeros_like(s) if stochastic else after / s,
        D=1 - after if stochastic else 1 - after / s,
        F=after if stochastic else None,
    )


def _schedule(o: FlowOptions, request: Request) -> tuple[FloatArray, FloatArray]:
    """Timesteps and sigmas of the rows to run, rounded to float32 as in diffusers."""
    count, steps = o.num_train_timesteps, request.steps
    if o.use_dynamic_shifting != (request.mu is not None):
        raise InputError(
            "FlowMatchEulerDiscreteScheduler: use_dynamic_shifting=True needs mu= (log of the time shift, "
            "which pipelines interpolate it from base_shift to max_shift over the image's number of tokens)"
            if o.use_dynamic_shifting
            else "mu= needs use_dynamic_shifting=True in the scheduler config"
        )
    if request.sigmas is not None:
        sigma = descending("sigmas", request.sigmas)
    elif request.timesteps is not None:
        sigma = request.timesteps / count
    else:
        # diffusers shifts the ends once when it is made and once more below
        low, high = 1 / count, 1.0
        if not o.use_dynamic_shifting:
            low, high = (float(np.float32(o.shift * e / (1 + (o.shift - 1) * e))) for e in (low, high))
        sigma = np.linspace(high * count, low * count, steps) / count
    if sigma.max() > 1 or sigma.min() <= 0:
        raise InputError(f"flow sigmas must be in (0, 1] and timesteps in (0, {count}]")
    sigma = _shifted(o, sigma, request.mu)
    sigma = noise.single(_respaced(o, sigma, steps))
    if not np.isfinite(sigma).all() or sigma.min() <= 0:
        raise InputError(
            "FlowMatchEulerDiscreteScheduler: shift_terminal needs at least two steps below sigma 1"
        )
    t = sigma * count if request.timesteps is None else descending("timesteps", request.timesteps)
    first = 0
    if request.start is not None:  # the rule of the flow pipelines rounds the number of rows up
        first = int(max(steps - min(steps * request.start, steps), 0))
    return noise.single(t)[first:], sigma[first:]


def _shifted(o: FlowOptions, sigma: FloatArray, mu: float | None) -> FloatArray:
    if mu is None:
        shifted = o.shift * sigma / (1 + (o.shift - 1) * sigma)
    elif o.time_shift_type == "exponential":
        shifted = math.exp(mu) / (math.exp(mu) + (1 / sigma - 1))
    else:
        if mu <= 0:
            raise InputError(f"mu must be positive with time_shift_type 'linear', got {mu}")
        shifted = mu / (mu + (1 / sigma - 1))
    if not o.shift_terminal:
        return np.asarray(shifted)
    return np.asarray(1 - (1 - shifted) * ((1 - o.shift_terminal) / (1 - shifted[-1])))


def _respaced(o: FlowOptions, sigma: FloatArray, steps: int) -> FloatArray:
    if o.use_karras_sigmas and o.use_exponential_sigmas:
        raise InputError("use_karras_sigmas and use_exponential_sigmas exclude each other")
    if o.use_karras_sigmas:
        return noise.karras(float(sigma[0]), float(sigma[-1]), steps)
    if o.use_exponential_sigmas:
        return noise.exponential(float(sigma[0]), float(sigma[-1]), steps)
    return sigma


FAMILIES = {
    "FlowMatchEulerDiscreteScheduler": Family(FlowOptions, plan, frozenset({"timesteps", "sigmas", "mu"}))
}
