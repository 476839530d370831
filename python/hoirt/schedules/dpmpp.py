"""DPM-Solver++ multistep (Lu et al. 2022), ODE and SDE: diffusers' DPMSolverMultistepScheduler."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from hoirt.errors import InputError
from hoirt.schedules import noise
from hoirt.schedules.options import Between, Note, Only
from hoirt.schedules.plan import Family, Plan, Request, training_timesteps
from hoirt.schedules.table import FloatArray


@dataclass(frozen=True, kw_only=True)
class DPMOptions(noise.NoiseOptions):
    """Options of DPMSolverMultistepScheduler with the defaults of diffusers."""

    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "linear"
    prediction_type: Literal["epsilon", "sample", "v_prediction", "flow_prediction"] = "epsilon"  # type: ignore[assignment]
    timestep_spacing: noise.Spacing = "linspace"
    solver_order: Annotated[int, Between(1, 3)] = 2
    algorithm_type: Annotated[
        Literal["dpmsolver++", "sde-dpmsolver++"],
        Note("dpmsolver and sde-dpmsolver extrapolate eps, which needs the state of earlier rows"),
    ] = "dpmsolver++"
    solver_type: Literal["midpoint", "heun"] = "midpoint"
    lower_order_final: bool = True
    euler_at_final: bool = False
    final_sigmas_type: Literal["zero", "sigma_min"] = "zero"
    use_karras_sigmas: bool = False
    use_exponential_sigmas: bool = False
    use_lu_lambdas: bool = False
    use_flow_sigmas: bool = False
    use_beta_sigmas: Annotated[bool, Only("use_karras_sigmas and use_exponential_sigmas exist")] = False
    flow_shift: Annotated[float, Between(1e-3, 1e3)] = 1.0
    use_dynamic_shifting: bool = False
    time_shift_type: Literal["exponential"] = "exponential"
    lambda_min_clipped: float = -math.inf
    variance_type: Annotated[str | None, Only("learned variances need a network with more channels")] = None
    thresholding: Annotated[bool, Only("a per-image quantile is no constant of a row")] = False
    dynamic_thresholding_ratio: float = 0.995
    sample_max_value: float = 1.0


def plan(o: DPMOptions, request: Request) -> Plan:
    """x' = C x + D x0 + E x0_prev + F n in the half log-SNR lambda = log(signal / noise)."""
    t, sigma = _schedule(o, request)
    steps, first = len(t), request.first_row()
    t, sigma = t[first:], sigma[first:]
    if (sigma[:-1] <= 0).any() or (np.diff(sigma[:-1]) >= 0).any():
        raise InputError(
            f"DPMSolverMultistepScheduler: {steps} steps are too many for this spacing, sigmas repeat"
        )
    signal, level = _level(o, sigma)
    ratio = level / signal
    with np.errstate(divide="ignore"):
        h = -np.diff(np.log(ratio))  # inf in a last row that ends at sigma 0
    sde = 2.0 if o.algorithm_type == "sde-dpmsolver++" else 1.0
    # exp(-h) = ratio' / ratio, so no row needs the logarithm of a zero sigma
    decay = ratio[1:] / ratio[:-1]
    gain = signal[1:] * (1 - decay**sde)
    slope = np.zeros_like(gain)  # weight of x0 - x0_prev
    for i in range(1, len(h)):
        if _order(o, i, first, steps) == 1:
            continue
        if o.solver_type == "midpoint":
            slope[i] = 0.5 * gain[i] * h[i] / h[i - 1]
        else:
            slope[i] = signal[i + 1] * (math.expm1(-sde * h[i]) / sde + h[i]) / h[i - 1]
    A, B = _x0(o, sigma[:-1], signal[:-1], level[:-1])
    return Plan(
        timestep=t,
        signal=signal[:-1],
        noise=level[:-1],
        A=A,
        B=B,
        C=level[1:] / level[:-1] * decay ** (sde - 1),
        D=gain + slope,
        E=-slope,
        F=level[1:] * np.sqrt(np.maximum(1 - decay**2, 0.0)) if sde == 2 else None,
    )


def _order(o: DPMOptions, i: int, first: int, steps: int) -> int:
    """Order of row i counted from `first`; the table's rows remember one x0, so order 3 is refused."""
    row = first + i
    low = o.lower_order_final and steps < 15
    if row == steps - 1 and (o.euler_at_final or low or o.final_sigmas_type == "zero"):
        return 1
    order = min(o.solver_order, i + 1, 2 if low and row == steps - 2 else 3)
    if order == 3:
        raise InputError(
            f"DPMSolverMultistepScheduler: solver_order=3 needs two earlier x0 in row {row} of {steps}, "
            "a step table keeps one: use solver_order 2"
        )
    return order


def _level(o: DPMOptions, sigma: FloatArray) -> tuple[FloatArray, FloatArray]:
    if o.use_flow_sigmas:
        return 1 - sigma, sigma
    signal = 1 / np.sqrt(sigma**2 + 1)
    return signal, sigma * signal


def _x0(
    o: DPMOptions, sigma: FloatArray, signal: FloatArray, level: FloatArray
) -> tuple[FloatArray, FloatArray]:
    if o.prediction_type != "flow_prediction":
        return noise.prediction(o.prediction_type, signal, level)
    if not o.use_flow_sigmas:
        raise InputError(
            "DPMSolverMultistepScheduler: prediction_type 'flow_prediction' needs use_flow_sigmas=True"
        )
    return np.ones_like(sigma), -sigma


def _schedule(o: DPMOptions, request: Request) -> tuple[FloatArray, FloatArray]:
    """Timesteps (S,) and sigmas (S + 1,), both rounded as in diffusers."""
    chosen = [
        n
        for n in ("karras_sigmas", "exponential_sigmas", "lu_lambdas", "flow_sigmas")
        if getattr(o, f"use_{n}")
    ]
    if len(chosen) > 1:
        raise InputError(
            f"DPMSolverMultistepScheduler: use_{chosen[0]} and use_{chosen[1]} exclude each other"
        )
    if request.timesteps is not None and chosen:
        raise InputError(f"timesteps= and use_{chosen[0]}=True exclude each other")
    if request.mu is not None and not (o.use_dynamic_shifting and o.use_flow_sigmas):
        raise InputError(
            "mu= needs use_dynamic_shifting=True and use_flow_sigmas=True in the scheduler config"
        )
    bar = noise.alphas_cumprod(o)
    if o.rescale_betas_zero_snr:
        bar[-1] = 2.0**-24  # diffusers: close to no signal, but sigma stays finite
    table = noise.sigmas(bar)
    if chosen == ["flow_sigmas"]:
        t, sigma = _flow(o, request)
    elif chosen:
        space = noise.karras if chosen == ["karras_sigmas"] else noise.exponential
        sigma = space(float(table[-1]), float(table[0]), request.steps)
        t = noise.sigma_to_timestep(sigma, table)
        if chosen != ["exponential_sigmas"] and o.beta_schedule != "squaredcos_cap_v2":
            t = t.round()
    else:
        t = _timesteps(o, request, table)
        sigma = table[t.astype(np.int64)]
    last = 0.0 if o.final_sigmas_type == "zero" else float(table[0])
    return np.floor(t), noise.single(np.append(sigma, last))


def _flow(o: DPMOptions, request: Request) -> tuple[FloatArray, FloatArray]:
    shift = o.flow_shift if request.mu is None else math.exp(request.mu)
    sigma = 1 - np.linspace(1, 1 / o.num_train_timesteps, request.steps + 1)
    sigma = (shift * sigma / (1 + (shift - 1) * sigma))[:0:-1]
    return sigma * o.num_train_timesteps, sigma


def _timesteps(o: DPMOptions, request: Request, table: FloatArray) -> FloatArray:
    count, steps = o.num_train_timesteps, request.steps
    if request.timesteps is not None:
        return training_timesteps(request.timesteps, count)
    # lambda = -log sigma, so lambda >= lambda_min_clipped keeps the timesteps below `end`
    end = int(np.count_nonzero(-np.log(table) >= o.lambda_min_clipped))
    if end < 1:
        raise InputError(f"lambda_min_clipped={o.lambda_min_clipped} leaves no timestep")
    if o.timestep_spacing == "linspace":
        return np.linspace(0, end - 1, steps + 1).round()[:0:-1]
    if o.timestep_spacing == "leading":
        t = np.arange(steps + 1.0)[:0:-1] * (end // (steps + 1)) + o.steps_offset
        return noise.checked(t, count, "steps_offset")
    t = np.arange(float(end), 0, -count / steps).round()[:steps] - 1
    if len(t) < steps:
        raise InputError(
            f"lambda_min_clipped={o.lambda_min_clipped} with trailing spacing leaves {len(t)} steps"
        )
    return t


FAMILIES = {"DPMSolverMultistepScheduler": Family(DPMOptions, plan, frozenset({"timesteps", "mu"}))}
