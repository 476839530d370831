"""The released HandRefiner's masked DDIM as a step table, row for row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hoirt.errors import InputError
from hoirt.schedules import ddim, noise
from hoirt.schedules.options import integer, number, read
from hoirt.schedules.table import StepTable


def released(config: Mapping[str, Any], steps: int, guidance: float) -> StepTable:
    """DDIM with eta 0 as HandRefiner runs it (ddim_hacked.py of its release).

    The timesteps are range(0, T, T // steps) + 1 from high to low, so a number of steps that does not divide
    T = `num_train_timesteps` gives one or more rows beyond `steps`. The last row goes to the noise level of
    timestep 0, not to a clean state. The release noises the known region to the present level and blends it
    before the network is run; that is the same sequence of states as blending at the next level after every
    row but the last, with the initial state blended too, which is what the table does.

    config: a scheduler config; only its training options count (betas, timesteps, prediction type).
    Raises InputError where the release would index beyond its schedule (as with 3 steps of 1000).
    """
    training = {key: config[key] for key in OF_THE_MODEL if key in config}
    options = read(ddim.DDIMOptions, {**training, "clip_sample": False}, "DDIMScheduler")
    count = options.num_train_timesteps
    steps = integer("steps", steps, 1, count)
    guidance = number("guidance", guidance, 0.0, 1000.0)
    ascending = np.arange(0, count, count // steps) + 1
    if ascending[-1] >= count:
        raise InputError(
            f"the released schedule of {steps} steps would run timestep {ascending[-1]} of 0 .. {count - 1}; "
            f"take a number of steps that divides {count}, such as 50"
        )
    bar = noise.alphas_cumprod(options)
    t = ascending[::-1]
    now, after = bar[t], np.append(bar[t[1:]], bar[0])
    signal, level = np.sqrt(now), np.sqrt(1 - now)
    A, B = noise.prediction(options.prediction_type, signal, level)
    C = np.sqrt(1 - after) / level
    rows = len(t)
    zeros = np.zeros(rows)
    return StepTable(
        timestep=t.astype(np.float64),
        guidance=np.full(rows, guidance),
        control=np.ones(rows),
        A=A,
        B=B,
        C=C,
        D=np.sqrt(after) - C * signal,
        E=zeros,
        F=zeros,
        G=np.append(signal[1:], 0.0),
        H=np.append(level[1:], 0.0),
        clip=zeros,
        known=np.arange(rows) < rows - 1,
        init_known=(float(signal[0]), float(level[0])),
    )


# What the model was trained with; the rest of a config belongs to one sampler and does not carry over.
OF_THE_MODEL = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
    "prediction_type",
)
