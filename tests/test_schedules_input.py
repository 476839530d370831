"""Wrong input to hoirt.schedules: every refusal names what was wrong and what would be right."""

from __future__ import annotations

import dataclasses
import itertools
import math
import warnings
from typing import Any

import numpy as np
import pytest
from hoirt import InputError
from hoirt.schedules import StepTable, build, names
from hoirt.schedules.build import FAMILIES
from hypothesis import given, settings
from hypothesis import strategies as st

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
DDIM = {"_class_name": "DDIMScheduler", "clip_sample": False, **SD}
DDPM = {"_class_name": "DDPMScheduler", **SD}
DPM = {"_class_name": "DPMSolverMultistepScheduler", **SD}
EULER = {"_class_name": "EulerDiscreteScheduler", **SD}
LCM = {"_class_name": "LCMScheduler"}
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "must be a mapping"),
        ({}, "needs a string _class_name"),
        ({"_class_name": 3}, "needs a string _class_name"),
        (
            {"_class_name": "DDIMSheduler"},
            r"unknown scheduler 'DDIMSheduler' \(did you mean 'DDIMScheduler'\?\)",
        ),
        ({"_class_name": "PNDMScheduler"}, "supported are CogVideoXDDIMScheduler, .*LCMScheduler"),
        ({"_class_name": "x" * 10**6}, "unknown scheduler"),
        ({**DDIM, "steps_ofset": 1}, r"no option 'steps_ofset' \(did you mean 'steps_offset'\?\)"),
        ({**DDIM, 3: 1}, "option names are strings"),
        ({**DDIM, "beta_start": "0.1"}, "beta_start must be a number"),
        ({**DDIM, "beta_start": True}, "beta_start must be a number"),
        ({**DDIM, "beta_start": math.nan}, "beta_start must be between"),
        ({**DDIM, "beta_end": math.inf}, "beta_end must be between"),
        ({**DDIM, "beta_end": 10**5000}, "beta_end must be between .* got a huge number"),
        ({**DDIM, "beta_start": -0.1}, "beta_start must be between"),
        ({**DDIM, "beta_start": 1e-9, "beta_end": 1e-9}, "larger beta_start"),
        ({**DDIM, "num_train_timesteps": 10**9}, "num_train_timesteps must be between"),
        ({**DDIM, "num_train_timesteps": 1000.0}, "must be a whole number"),
        ({**DDIM, "num_train_timesteps": 0}, "num_train_timesteps must be between"),
        ({**DDIM, "trained_betas": [0.1, 0.2]}, "num_train_timesteps = 1000 entries, got 2"),
        ({**DDIM, "trained_betas": [math.nan] * 1000}, r"trained_betas\[0\] must be between"),
        ({**DDIM, "trained_betas": "abc"}, "must be a list of numbers"),
        ({**DDIM, "trained_betas": [[0.1], [0.2, 0.3]]}, r"trained_betas\[0\] must be a number"),
        ({**DDIM, "trained_betas": np.full((1000, 1), 0.1)}, "must be a list of numbers"),
        ({**DDIM, "trained_betas": [0.1] * 200_000}, "1 to 100000 entries"),
        ({**DDIM, "clip_sample": "no"}, "clip_sample must be true or false"),
        ({**DDIM, "clip_sample": True}, "set clip_sample to false, or pass use_clipped_model_output=True"),
        ({**DDIM, "thresholding": True}, "thresholding=True is not supported, only False is"),
        (
            {**DDIM, "prediction_type": "v"},
            "prediction_type must be one of 'epsilon', 'sample', 'v_prediction'",
        ),
        ({**DDIM, "prediction_type": None}, "prediction_type must be one of"),
        ({**DDIM, "timestep_spacing": "trail"}, r"\(did you mean 'trailing'\?\)"),
        ({**DDIM, "steps_offset": 300}, "another steps_offset"),
        ({**DDIM, "beta_schedule": "linear", "beta_end": 0.9}, "without signal"),
        ({**DDPM, "variance_type": "learned_range"}, "learned variances"),
        ({**DDPM, "variance_type": "fixed_large_log"}, "NaN in diffusers"),
        ({**DPM, "solver_order": 3, "steps": 4}, "no option 'steps'"),
        (
            {**DPM, "solver_order": 3, "lower_order_final": False},
            "solver_order=3 needs two earlier x0 in row 2 of 4",
        ),
        ({**DPM, "algorithm_type": "dpmsolver"}, r"must be one of 'dpmsolver\+\+'.*extrapolate eps"),
        ({**DPM, "use_beta_sigmas": True}, "use_karras_sigmas and use_exponential_sigmas exist"),
        ({**DPM, "use_karras_sigmas": True, "use_flow_sigmas": True}, "exclude each other"),
        ({**DPM, "prediction_type": "flow_prediction"}, "needs use_flow_sigmas=True"),
        ({**DPM, "variance_type": "learned"}, "variance_type='learned' is not supported"),
        ({**DPM, "lambda_min_clipped": 100.0}, "leaves no timestep"),
        ({**DPM, "num_train_timesteps": 4}, "too many for this spacing"),
        ({**DPM, "num_train_timesteps": 4, "timestep_spacing": "leading"}, "too many for this spacing"),
        ({**DPM, "beta_schedule": "linear", "beta_end": 0.9}, "no signal from timestep"),
        ({**EULER, "interpolation_type": "log_linear"}, "only 'linear' is"),
        ({**EULER, "use_karras_sigmas": True, "use_exponential_sigmas": True}, "exclude each other"),
        ({**LCM, "original_inference_steps": 3}, "steps=4 exceeds original_inference_steps x start = 3"),
        ({**LCM, "original_inference_steps": 2000}, "exceeds num_train_timesteps"),
        ({**FLOW, "invert_sigmas": True}, "invert_sigmas=True is not supported"),
        ({**FLOW, "use_dynamic_shifting": True}, "needs mu="),
        ({**FLOW, "beta_start": 0.1}, "no option 'beta_start'"),
    ],
)
def test_wrong_configs(config: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(config, 4)


@pytest.mark.parametrize(
    ("config", "arguments", "message"),
    [
        (DDIM, {"steps": 0}, "steps must be between 1 and 1000, got 0"),
        (DDIM, {"steps": -3}, "steps must be between"),
        (DDIM, {"steps": 1001}, "steps must be between"),
        (DDIM, {"steps": 10**400}, "steps must be between"),
        ({**DDIM, "num_train_timesteps": 100_000}, {"steps": 10_001}, "steps must be between 1 and 10000"),
        (DDIM, {"steps": 4.0}, "steps must be a whole number"),
        (DDIM, {"steps": True}, "steps must be a whole number"),
        (DDIM, {"steps": "4"}, "steps must be a whole number"),
        ({**DDIM, "num_train_timesteps": 1, "rescale_betas_zero_snr": True}, {"steps": 1}, "two different"),
        (DDIM, {"guidance": math.nan}, "guidance must be between"),
        (DDIM, {"guidance": -1.0}, "guidance must be between"),
        (DDIM, {"guidance": None}, "guidance must be a number"),
        (DDIM, {"eta": 1.5}, "eta must be between"),
        (DDIM, {"start": 0.0}, "start must be between"),
        (DDIM, {"start": 0.1}, "leaves no step"),
        (DDIM, {"start": 2.0}, "start must be between"),
        (DDIM, {"known_region": 1}, "known_region must be True or False"),
        (DDIM, {"timesteps": [3, 2, 1, 0]}, "takes no timesteps; it exists for DDPMScheduler"),
        (DDIM, {"dynamic_guidance": True}, "takes no dynamic_guidance; it exists for CogVideoXDDIMScheduler"),
        (DDIM, {"mu": 1.0}, "takes no mu; it exists for DPMSolverMultistepScheduler, FlowMatch"),
        (DDPM, {"eta": 0.5}, "takes no eta; it exists for DDIMScheduler"),
        (DDPM, {"use_clipped_model_output": True}, "takes no use_clipped_model_output"),
        (DDPM, {"timesteps": [3, 2, 1]}, "must have steps = 4 entries, got 3"),
        (DDPM, {"timesteps": [3, 2, 2, 1]}, "strictly descending"),
        (DDPM, {"timesteps": [1000, 2, 1, 0]}, r"only has 0 \.\. 999"),
        (DDPM, {"timesteps": [4, 3, 2, -1]}, r"timesteps\[3\] must be between"),
        (DDPM, {"timesteps": [4.5, 3, 2, 1]}, "whole numbers"),
        (DDPM, {"timesteps": itertools.count()}, "must be a list of numbers"),
        (DPM, {"mu": 1.0}, "needs use_dynamic_shifting=True and use_flow_sigmas=True"),
        ({**DPM, "use_karras_sigmas": True}, {"timesteps": [4, 3, 2, 1]}, "exclude each other"),
        (EULER, {"sigmas": [3.0, 2.0, 1.0, 0.0]}, "sigmas must be positive"),
        (EULER, {"sigmas": [1.0, 2.0, 3.0, 4.0]}, "strictly descending"),
        (EULER, {"sigmas": [4, 3, 2, 1], "timesteps": [4, 3, 2, 1]}, "exclude each other"),
        (
            {**EULER, "use_karras_sigmas": True},
            {"sigmas": [4, 3, 2, 1]},
            "sigmas= and use_karras_sigmas exclude",
        ),
        (LCM, {"start": 0.01}, "use fewer steps, a larger start"),
        (LCM, {"start": 0.5, "timesteps": [4, 3, 2, 1]}, "exclude each other"),
        (FLOW, {"sigmas": [1.5, 0.5, 0.2, 0.1]}, r"sigmas must be in \(0, 1\]"),
        (FLOW, {"sigmas": [1.0, 0.5, 0.2, 0.0]}, r"sigmas must be in \(0, 1\]"),
        (FLOW, {"mu": 1.0}, "needs use_dynamic_shifting=True"),
        ({**FLOW, "use_dynamic_shifting": True}, {"mu": math.nan}, "mu must be between"),
        ({**FLOW, "shift_terminal": 0.1}, {"steps": 1}, "shift_terminal needs at least two steps"),
    ],
)
def test_wrong_arguments(config: dict[str, Any], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(config, arguments.pop("steps", 4), **arguments)


def test_table_checks_itself() -> None:
    table = build(DDIM, 4)
    columns = {f.name: getattr(table, f.name) for f in dataclasses.fields(table)}
    for change, message in [
        ({"A": [1, 2, 3]}, r"A must have shape \(4,\), got \(3,\)"),
        ({"A": [1, 2, 3, math.nan]}, "A is nan in row 3"),
        ({"A": "abc"}, "A must hold numbers"),
        ({"E": [1, 0, 0, 0]}, "E must be 0 in row 0"),
        ({"clip": [-1, 0, 0, 0]}, "clip must be >= 0"),
        ({"known": [0, 1, 1, 0]}, "known must be bool"),
        ({"reuse": [0, 1, 1, 0]}, "reuse must be bool"),
        ({"reuse": np.zeros(3, bool)}, "reuse must be bool"),
        ({"reuse": np.ones(4, bool)}, "reuse must be False in row 0"),
        ({"reuse": np.arange(4) == 2, "guidance": [2, 1, 2, 2]}, "False in row 2: it is guided, and row 1"),
        ({"init_noise": math.inf}, "must be finite"),
        ({"init_known": (1.0, math.nan)}, "must be finite"),
        ({"timestep": 3.0}, "columns of shape"),
        ({"timestep": []}, "columns of shape"),
    ]:
        with pytest.raises(InputError, match=message):
            StepTable(**{**columns, **change})
    with pytest.raises(ValueError, match="read-only"):
        table.A[0] = 3
    assert table == StepTable(**columns) and table != dataclasses.replace(table, init_signal=1.0)
    assert len(table) == 4 and repr(table) == "StepTable(4 rows, timestep 750 .. 0, known rows 0)"


NUMBERS = [0, 1, 2, 3, 50, 999, 10**30, -1, 0.0, 0.02, 0.5, 0.999, 7.0, 1e9, -3.5, math.nan, math.inf]
WORDS = [
    "linear",
    "scaled_linear",
    "squaredcos_cap_v2",
    "leading",
    "trailing",
    "linspace",
    "continuous",
    "heun",
]
WORDS += [
    "epsilon",
    "v_prediction",
    "flow_prediction",
    "sde-dpmsolver++",
    "sigma_min",
    "fixed_large",
    "x",
    "",
]
LISTS: list[Any] = [[], [1.0], [0.25, 0.5], [0.9, 0.5], [3, 2, 1, 0], [4, 3, 2, 1], {}]
ARGUMENTS = [
    "guidance",
    "eta",
    "mu",
    "start",
    "known_region",
    "use_clipped_model_output",
    "timesteps",
    "sigmas",
    "guidance_interval",
    "reuse_every",
]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data(), name=st.sampled_from(names()))
def test_anything_gives_a_table_or_an_input_error(data: st.DataObject, name: str) -> None:
    """No other exception, no warning, no NaN, whatever is passed."""
    values = st.sampled_from([None, True, False, *NUMBERS, *WORDS, *LISTS])
    options = [f.name for f in dataclasses.fields(FAMILIES[name].options)]
    config = data.draw(st.dictionaries(st.sampled_from(options), values, max_size=3))
    if name == "DDIMScheduler":
        config.setdefault("clip_sample", False)
    arguments = data.draw(st.dictionaries(st.sampled_from(ARGUMENTS), values, max_size=1))
    steps = data.draw(st.sampled_from([1, 2, 3, 4, 20, 999, 1000, 0, 2.0, None]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            table = build({**config, "_class_name": name}, steps, **arguments)
        except InputError as error:
            assert 10 < len(str(error)) < 1000
        else:
            assert 1 <= len(table) <= steps
