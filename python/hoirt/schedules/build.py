"""`build`: from a diffusers scheduler config to a step table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import InputError
from hoirt.schedules import cogvideox, ddim, ddpm, dpmpp, euler, flow, lcm
from hoirt.schedules.options import closest, integer, number, read, sequence, shown
from hoirt.schedules.plan import Family, Plan, Request
from hoirt.schedules.table import FloatArray, StepTable

FAMILIES: dict[str, Family] = {
    name: family
    for module in (cogvideox, ddim, ddpm, dpmpp, euler, flow, lcm)
    for name, family in module.FAMILIES.items()
}

Values: TypeAlias = Sequence[float] | FloatArray

MAX_STEPS = 10_000


def names() -> tuple[str, ...]:
    """The scheduler class names that `build` understands."""
    return tuple(sorted(FAMILIES))


def build(
    config: Mapping[str, Any],
    steps: int,
    *,
    guidance: float = 1.0,
    dynamic_guidance: bool = False,
    eta: float = 0.0,
    use_clipped_model_output: bool = False,
    timesteps: Values | None = None,
    sigmas: Values | None = None,
    mu: float | None = None,
    start: float | None = None,
    known_region: bool = False,
    guidance_interval: tuple[float, float] = (0.0, 1.0),
    reuse_every: int = 1,
) -> StepTable:
    """The step table of one sampling run.

    config: content of a diffusers scheduler_config.json, with "_class_name" (one of `names()`).
    steps: number of steps, 1 .. num_train_timesteps (fewer rows with `start` < 1).
    guidance: classifier-free guidance scale w in [0, 1000]; 1 runs no unconditional pass.
    dynamic_guidance: CogVideoX only; the scale of each row follows the pipeline's use_dynamic_cfg formula.
    eta, use_clipped_model_output: DDIM only, as in its step(); eta in [0, 1].
    timesteps, sigmas: replace the spacing where the diffusers class takes them; `steps` of them, strictly
        descending, without the final sigma.
    mu: log of the time shift of flow samplers with use_dynamic_shifting.
    start: image-to-image strength in (0, 1]: the given state is noised to the level where the last
        int(steps * start) steps begin. None: starts from pure noise.
    known_region: every row but the last blends the known region, noised afresh to the next row's level, into
        its result, and the initial state is blended too (HandRefiner's masked DDIM).
    guidance_interval: (low, high) with 0 <= low <= high <= 1: row i of the whole schedule, 0 <= i < steps and
        0 the noisiest, is guided if low <= i / steps < high. The other rows get guidance 1, that is half the
        work. (0, 1) guides all rows, (0.2, 0.8) of 20 steps the rows 4 to 15. `start` skips rows, it does not
        renumber them. After Kynkaanniemi et al. 2024, whose interval is one of noise levels.
    reuse_every: k in [1, 10000]: rows i of the table with i % k != 0 are marked to reuse features, except for
        the first guided row after one that is not; 1 marks none. Such a table needs a loop with a reuse
        network.

    Raises InputError for whatever cannot be right or is not supported, naming it and what exists.
    """
    if not isinstance(config, Mapping):
        raise InputError(f"scheduler config must be a mapping, got {type(config).__name__}")
    name = config.get("_class_name")
    if not isinstance(name, str):
        raise InputError(f"scheduler config needs a string _class_name, one of {', '.join(names())}")
    if name not in FAMILIES:
        hint = closest(name, FAMILIES)
        raise InputError(f"unknown scheduler {shown(name)}{hint}; supported are {', '.join(names())}")
    family = FAMILIES[name]
    options = read(family.options, config, name)
    steps = integer("steps", steps, 1, min(options.num_train_timesteps, MAX_STEPS))
    guidance = number("guidance", guidance, 0.0, 1000.0)
    request = Request(
        steps=steps,
        start=None if start is None else number("start", start, 1e-6, 1.0),
        eta=number("eta", eta, 0.0, 1.0),
        mu=None if mu is None else number("mu", mu, -20.0, 20.0),
        timesteps=_override("timesteps", timesteps, steps),
        sigmas=_override("sigmas", sigmas, steps),
        use_clipped_model_output=_flag("use_clipped_model_output", use_clipped_model_output),
    )
    _check_taken(name, family, request, _flag("dynamic_guidance", dynamic_guidance))
    # levels that are zero or underflow are caught by the families or by StepTable, with a message
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        plan = family.plan(options, request)
    scale = (
        _dynamic(guidance, plan.timestep, steps)
        if dynamic_guidance
        else np.full(len(plan.timestep), guidance)
    )
    scale = _inside(_interval(guidance_interval), scale, steps)
    reuse = _reuse(integer("reuse_every", reuse_every, 1, MAX_STEPS), scale)
    return _table(plan, scale, start is not None, _flag("known_region", known_region), reuse)


def _table(
    plan: Plan, guidance: FloatArray, from_state: bool, known_region: bool, reuse: NDArray[np.bool_]
) -> StepTable:
    rows = len(plan.timestep)
    zeros = np.zeros(rows)
    level = (float(plan.signal[0]), float(plan.noise[0]))
    return StepTable(
        timestep=plan.timestep,
        guidance=guidance,
        control=np.ones(rows),
        A=plan.A,
        B=plan.B,
        C=plan.C,
        D=plan.D,
        E=zeros if plan.E is None else plan.E,
        F=zeros if plan.F is None else plan.F,
        G=np.append(plan.signal[1:], 0.0) if known_region else zeros,
        H=np.append(plan.noise[1:], 0.0) if known_region else zeros,
        clip=np.full(rows, plan.clip),
        known=np.arange(rows) < rows - 1 if known_region else np.zeros(rows, dtype=bool),
        init_signal=level[0] if from_state else 0.0,
        init_noise=level[1] if from_state else plan.init_noise,
        init_known=level if known_region else None,
        reuse=reuse,
    )


def _interval(value: object) -> tuple[float, float]:
    if not isinstance(value, tuple | list | np.ndarray) or len(value) != 2:
        raise InputError(f"guidance_interval must be a pair (low, high), got {shown(value)}")
    low = number("guidance_interval[0]", value[0], 0.0, 1.0)
    high = number("guidance_interval[1]", value[1], 0.0, 1.0)
    if low > high:
        raise InputError(f"guidance_interval must not fall, got ({low:g}, {high:g})")
    return low, high


def _inside(interval: tuple[float, float], guidance: FloatArray, steps: int) -> FloatArray:
    """The guidance of the rows inside of the interval, 1 outside; the rows are the last ones of `steps`."""
    low, high = interval
    place = np.arange(steps - len(guidance), steps) / steps
    return np.where((low <= place) & (place < high), guidance, 1.0)


def _reuse(every: int, guidance: FloatArray) -> NDArray[np.bool_]:
    guided = guidance != 1
    reuse: NDArray[np.bool_] = np.arange(len(guidance)) % every != 0
    reuse[1:] &= ~(guided[1:] & ~guided[:-1])  # what an unguided row keeps has no unconditional half
    return reuse


def _dynamic(guidance: float, timesteps: FloatArray, steps: int) -> FloatArray:
    """CogVideoX's use_dynamic_cfg. It mixes a training timestep with a step count, so the scale jumps about
    between 1 and 1 + guidance; its authors keep it, and the released models are used with it."""
    return np.array(
        [1 + guidance * (1 - math.cos(math.pi * ((steps - t) / steps) ** 5)) / 2 for t in timesteps]
    )


def _check_taken(name: str, family: Family, request: Request, dynamic_guidance: bool) -> None:
    given = {
        "eta": request.eta != 0,
        "mu": request.mu is not None,
        "timesteps": request.timesteps is not None,
        "sigmas": request.sigmas is not None,
        "use_clipped_model_output": request.use_clipped_model_output,
        "dynamic_guidance": dynamic_guidance,
    }
    for argument, is_given in given.items():
        if is_given and argument not in family.takes:
            others = ", ".join(n for n in names() if argument in FAMILIES[n].takes)
            raise InputError(f"{name} takes no {argument}; it exists for {others}")


def _override(label: str, values: Values | None, steps: int) -> FloatArray | None:
    if values is None:
        return None
    result = np.array(sequence(label, values, 0.0, 1e6))
    if len(result) != steps:
        raise InputError(f"{label} must have steps = {steps} entries, got {len(result)}")
    return result


def _flag(label: str, value: object) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{label} must be True or False, got {shown(value)}")
    return bool(value)
