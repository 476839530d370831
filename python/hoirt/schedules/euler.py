"""Euler in sigma space (Karras et al. 2022) on the variance-preserving state: EulerDiscreteScheduler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from hoirt.errors import InputError
from hoirt.schedules import noise
from hoirt.schedules.options import Between, Only
from hoirt.schedules.plan import Family, Plan, Request, descending
from hoirt.schedules.table import FloatArray


@dataclass(frozen=True, kw_only=True)
class EulerOptions(noise.NoiseOptions):
    """Options of EulerDiscreteScheduler with the defaults of diffusers."""

    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "linear"
    timestep_spacing: noise.Spacing = "linspace"
    timestep_type: Literal["discrete", "continuous"] = "discrete"
    interpolation_type: Annotated[str, Only("log_linear ends above sigma 0 in diffusers")] = "linear"
    use_karras_sigmas: bool | None = False
    use_exponential_sigmas: bool | None = False
    use_beta_sigmas: Annotated[bool | None, Only("use_karras_sigmas and use_exponential_sigmas exist")] = (
        False
    )
    sigma_min: Annotated[float | None, Between(1e-6, 1e6)] = None
    sigma_max: Annotated[float | None, Between(1e-6, 1e6)] = None
    final_sigmas_type: Literal["zero", "sigma_min"] = "zero"


def plan(o: EulerOptions, request: Request) -> Plan:
    """x' = (s'/s) x + (1 - s'/s) x0 on x0 + s n, divided by sqrt(1 + s^2) before and sqrt(1 + s'^2) after."""
    t, sigma = _schedule(o, request)
    scale = 1 / np.sqrt(sigma**2 + 1)
    # with linspace and trailing, diffusers starts from sigma_max n without the data's own unit variance
    init = 1.0 if o.timestep_spacing == "leading" else float(sigma[0] * scale[0])
    first = request.first_row()
    t, sigma, scale = t[first:], sigma[first:], scale[first:]
    signal, level = scale[:-1], sigma[:-1] * scale[:-1]
    A, B = noise.prediction(o.prediction_type, signal, level)
    ratio = sigma[1:] / sigma[:-1]
    return Plan(
        timestep=t,
        signal=signal,
        noise=level,
        A=A,
        B=B,
        C=ratio * scale[1:] / scale[:-1],
        D=scale[1:] * (1 - ratio),
        init_noise=init,
    )


def _schedule(o: EulerOptions, request: Request) -> tuple[FloatArray, FloatArray]:
    """Timesteps (S,) and sigmas (S + 1,), both rounded to float32 as in diffusers."""
    chosen = [n for n in ("use_karras_sigmas", "use_exponential_sigmas") if getattr(o, n)]
    if len(chosen) > 1:
        raise InputError(f"EulerDiscreteScheduler: {chosen[0]} and {chosen[1]} exclude each other")
    if request.sigmas is not None and request.timesteps is not None:
        raise InputError("timesteps= and sigmas= exclude each other for EulerDiscreteScheduler")
    continuous = o.timestep_type == "continuous" and o.prediction_type == "v_prediction"
    for given, label in ((request.timesteps, "timesteps"), (request.sigmas, "sigmas")):
        if given is not None and (chosen or continuous):
            raise InputError(f"{label}= and {(*chosen, 'timestep_type continuous')[0]} exclude each other")
    bar = noise.alphas_cumprod(o)
    if o.rescale_betas_zero_snr:
        bar[-1] = 2.0**-24  # diffusers: close to no signal, but sigma stays finite
    table = noise.sigmas(bar)
    if request.sigmas is not None:
        if request.sigmas.min() <= 0:
            raise InputError("sigmas must be positive; the final one is added by final_sigmas_type")
        sigma = descending("sigmas", noise.single(request.sigmas))
        t = noise.sigma_to_timestep(sigma, table)
    else:
        t = noise.single(_timesteps(o, request))
        sigma = np.interp(t, np.arange(len(table)), table)
        if chosen:
            space = noise.karras if chosen == ["use_karras_sigmas"] else noise.exponential
            high, low = o.sigma_max or float(sigma[0]), o.sigma_min or float(sigma[-1])
            sigma = space(high, low, request.steps)
            t = noise.sigma_to_timestep(sigma, table)
    last = 0.0 if o.final_sigmas_type == "zero" else float(table[0])
    sigma = noise.single(np.append(sigma, last))
    return noise.single(0.25 * np.log(sigma[:-1]) if continuous else t), sigma


def _timesteps(o: EulerOptions, request: Request) -> FloatArray:
    count = o.num_train_timesteps
    if request.timesteps is not None:
        return descending("timesteps", noise.checked(request.timesteps, count, "timesteps"))
    if o.timestep_spacing == "linspace":
        return np.linspace(0, count - 1, request.steps)[::-1]
    return noise.spaced(o, request.steps)


FAMILIES = {"EulerDiscreteScheduler": Family(EulerOptions, plan, frozenset({"timesteps", "sigmas"}))}
