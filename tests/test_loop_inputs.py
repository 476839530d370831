"""Wrong input to the native loop and its tables: typed errors that say what is wrong."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hoirt import BackendError, InputError, OutOfMemory, _core
from loop_tools import network, table, wave

SHAPE = (2, 4, 5, 6)
F32 = np.float32


def ones(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.ones(shape, F32)


def known_rows() -> SimpleNamespace:
    return table(2, C=1, known=True, G=1)


def run(rows: object, **changes: Any) -> _core.LoopResult:
    arguments: dict[str, Any] = {"shape": SHAPE, "seeds": [1, 2], "condition": {"context": ones(2)}}
    return _core.DenoiseLoop(network(wave)).run(rows, **(arguments | changes))


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        ("shape must be", {"shape": (2,)}),
        ("shape must be", {"shape": (0, 4, 5, 6), "seeds": []}),
        ("shape must be", {"shape": (2, 4, 0, 6)}),
        ("shape must be", {"shape": (2, 4, -5, 6)}),
        ("shape: ", {"shape": (2, 4, 5.5, 6)}),
        ("shape: ", {"shape": 4}),
        ("shape: ", {"shape": (2, 4, 2**70, 6)}),
        ("too many elements", {"shape": (2, 4, 2**40, 2**40)}),
        ("seeds must hold one number for each of the 2 items, not 3", {"seeds": [1, 2, 3]}),
        (r"seeds\[1\] must be an integer in 0..18446744073709551615, not -1", {"seeds": [1, -1]}),
        (r"seeds\[0\]", {"seeds": [2**64, 1]}),
        (r"seeds\[0\]", {"seeds": np.array([0.5, 1.0])}),
        ("seeds: ", {"seeds": 5}),
        ("condition lacks 'context'", {"condition": {}}),
        ("no input 'text'", {"condition": {"context": ones(2), "text": ones(2)}}),
        ("no input 'text'", {"uncondition": {"text": ones(2)}}),
        ("loop itself feeds", {"condition": {"context": ones(2), "timestep": ones(2)}}),
        ("must have 2 .or 1. items", {"condition": {"context": ones(3)}}),
        ("must have 2 .or 1. items", {"condition": {"context": np.ones((), F32)}}),
        ("context must hold float32, not float64", {"condition": {"context": np.ones(2)}}),
        ("context must have shape", {"condition": {"context": ones(2, 3)}}),
        ("'context' holds NaN", {"condition": {"context": np.full(2, np.nan, F32)}}),
        ("holds complex64", {"condition": {"context": np.ones(2, np.complex64)}}),
        ("must be an array", {"condition": {"context": [1.0, 1.0]}}),
        ("condition: ", {"condition": 5}),
        ("condition: ", {"condition": {3: ones(2)}}),
        ("uncondition 'context' must be like", {"uncondition": {"context": ones(2, 1)}}),
        ("control must be one number or one for each", {"control": [1, 1, 1]}),
        ("control must be a number or an array", {"control": "strong"}),
        ("control must be a number or an array", {"control": np.ones((2, 2))}),
        ("control holds NaN", {"control": np.nan}),
        ("initial must have shape", {"initial": ones(2, 4, 5, 5)}),
        ("initial must hold float32, not float64", {"initial": np.ones(SHAPE)}),
        ("initial holds NaN", {"initial": np.full(SHAPE, np.inf, F32)}),
        ("initial must be an array", {"initial": "noise"}),
        ("no row of the step table blends", {"known": ones(*SHAPE), "mask": ones(2, 1, 5, 6)}),
        ("known is given without a mask", {"known": ones(*SHAPE)}),
        ("mask is given without the known", {"mask": ones(2, 1, 5, 6)}),
        (r"noise must have shape \(1, 2, 4, 5, 6\)", {"noise": ones(2, *SHAPE)}),
        (r"noise must have shape \(1, 2, 4, 5, 6\)", {"noise": ones(*SHAPE)}),
        ("noise holds NaN", {"noise": np.full((1, *SHAPE), np.nan, F32)}),
        ("on_step must be callable", {"on_step": 5}),
    ],
)
def test_wrong_arguments(message: str, changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=message):
        run(table(2, C=1), **changes)


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        ("known and mask are needed", {}),
        ("known must have shape", {"known": ones(2, 4, 5, 5), "mask": ones(2, 1, 5, 6)}),
        ("known holds NaN", {"known": np.full(SHAPE, np.nan, F32), "mask": ones(2, 1, 5, 6)}),
        ("mask must broadcast", {"known": ones(*SHAPE), "mask": ones(5, 6)}),
        ("mask must broadcast", {"known": ones(*SHAPE), "mask": ones(2, 2, 5, 6)}),
        ("mask must lie in 0..1", {"known": ones(*SHAPE), "mask": 2 * ones(2, 1, 5, 6)}),
        ("mask must lie in 0..1", {"known": ones(*SHAPE), "mask": -ones(2, 1, 5, 6)}),
        ("mask holds NaN", {"known": ones(*SHAPE), "mask": np.full((2, 1, 5, 6), np.nan, F32)}),
        ("mask must hold float32, not bool", {"known": ones(*SHAPE), "mask": np.ones((2, 1, 5, 6), bool)}),
        (
            r"noise must have shape \(3, ",
            {"known": ones(*SHAPE), "mask": ones(1, 1, 1, 1), "noise": ones(2, *SHAPE)},
        ),
    ],
)
def test_wrong_known_region(message: str, changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=message):
        run(known_rows(), **changes)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 1, 5, 6), (1, 1, 5, 6), (2, 4, 5, 6), (1, 4, 1, 6)])
def test_masks_broadcast(shape: tuple[int, ...]) -> None:
    mask = np.random.default_rng(0).integers(0, 2, shape).astype(F32)
    out = run(known_rows(), known=np.full(SHAPE, 7, F32), mask=mask).latents
    np.testing.assert_array_equal(out == 7, np.broadcast_to(mask, SHAPE) == 0)


def test_initial_is_needed_if_the_table_starts_from_it() -> None:
    with pytest.raises(InputError, match="initial is needed"):
        run(table(1, C=1, init_signal=0.5))


def test_strided_and_torch_arrays_are_taken() -> None:
    wide = np.random.default_rng(0).standard_normal((2, 4, 5, 12)).astype(F32)
    rows = table(1, C=1, init_signal=1, init_noise=0)
    for state in (wide[..., ::2], torch.from_numpy(wide)[..., ::2], np.asfortranarray(wide[..., ::2])):
        np.testing.assert_array_equal(run(rows, initial=state).latents, wide[..., ::2])


@pytest.mark.parametrize(
    ("message", "change"),
    [
        (
            "1 to 100000 rows, not 0",
            {name: np.zeros(0) for name, column in vars(table(2)).items() if np.ndim(column)},
        ),
        ("B has 3 rows, timestep has 2", {"B": np.zeros(3)}),
        ("known has 1 rows", {"known": np.zeros(1, bool)}),
        ("A must have one axis", {"A": np.zeros((2, 1))}),
        ("A must have one axis", {"A": 1.0}),
        ("C must be an array of numbers", {"C": ["a", "b"]}),
        (r"D\[1\] must be finite", {"D": np.array([0, np.nan])}),
        (r"timestep\[0\] must be finite", {"timestep": np.array([np.inf, 0])}),
        (r"clip\[0\] must be 0 .off. or positive", {"clip": np.array([-1.0, 0])}),
        (r"E\[0\] must be 0", {"E": np.ones(2)}),
        ("known must hold booleans", {"known": np.array([0, 2])}),
        ("init_signal must be a number", {"init_signal": "x"}),
        ("init_noise must be finite", {"init_noise": np.nan}),
        ("init_known must be None or the pair", {"init_known": (1, 2, 3)}),
        ("init_known must be None or the pair", {"init_known": 1.0}),
        ("init_known H must be a number", {"init_known": (1, "x")}),
        ("init_known G must be finite", {"init_known": (np.inf, 0)}),
    ],
)
def test_wrong_tables(message: str, change: dict[str, Any]) -> None:
    rows = SimpleNamespace(**(vars(table(2, C=1)) | change))
    with pytest.raises(InputError, match=message):
        run(rows)
    with pytest.raises(InputError, match=message):
        _core.StepTable.from_columns(**vars(rows))


def test_incomplete_and_unknown_columns() -> None:
    rows = table(2, C=1)
    del rows.guidance
    with pytest.raises(InputError, match="has no 'guidance'"):
        run(rows)
    with pytest.raises(InputError, match="has no 'timestep'"):
        run(None)
    with pytest.raises(InputError, match="unknown column 'Z'"):
        _core.StepTable.from_columns(timestep=np.zeros(2), Z=np.zeros(2))
    with pytest.raises(InputError, match="timestep is missing"):
        _core.StepTable.from_columns(A=np.zeros(2))


def test_ports_must_exist() -> None:
    made = network(wave)
    for wrong, message in [
        ({"state": "latent"}, "no input 'latent'; it has sample, timestep, control_scale, context"),
        ({"timestep": "t"}, "no input 't'"),
        ({"control": "strength"}, "no input 'strength'"),
        ({"output": "eps"}, "no output 'eps'; it has prediction"),
    ]:
        with pytest.raises(InputError, match=message):
            _core.DenoiseLoop(made, **wrong)
    port = _core.Port("sample", [-1, -1])
    whole = _core.PythonNetwork([port, _core.Port("timestep", [-1], "int64")], [port], dict)
    with pytest.raises(InputError, match="'timestep' must hold float32, not int64"):
        _core.DenoiseLoop(whole, control=None, output="sample")


def test_inputs_per_step_must_fit() -> None:
    ports = [_core.Port("sample", [-1, 2]), _core.Port("time", [-1, 3])]
    made = _core.PythonNetwork(
        ports, [_core.Port("prediction", [-1, 2])], lambda i: {"prediction": i["sample"]}
    )
    loop = _core.DenoiseLoop(made, timestep=None, control=None)
    fits = np.zeros((2, 3), np.float32)
    for per_step, condition, message in [
        ({}, {}, "condition lacks 'time'"),
        ({"time": fits[:1]}, {}, r"'time' must have one row for each of the 2 steps, not shape \(1, 3\)"),
        ({"time": np.float32(1)}, {}, "one row for each of the 2 steps"),
        ({"time": fits.astype(np.int64)}, {}, "time must hold float32, not int64"),
        ({"time": np.zeros((2, 4), np.float32)}, {}, r"time must have shape \(-1, 3\)"),
        ({"time": fits, "tme": fits}, {}, "per_step: the network has no input 'tme'; it has sample, time"),
        ({"sample": fits, "time": fits}, {}, "per_step names 'sample', which the loop itself feeds"),
        ({"time": fits}, {"time": fits[:1]}, "per_step names 'time', and condition does too"),
    ]:
        with pytest.raises(InputError, match=message):
            loop.run(table(2, C=1), shape=(1, 2), seeds=[0], per_step=per_step, condition=condition)
    loop.run(table(2, C=1), shape=(1, 2), seeds=[0], per_step={"time": fits})


def test_control_needs_a_port() -> None:
    port = _core.Port("sample", [-1, -1])
    made = _core.PythonNetwork([port, _core.Port("timestep", [-1])], [port], dict)
    loop = _core.DenoiseLoop(made, control=None, output="sample")
    loop.run(table(1, C=1), shape=(1, 3), seeds=[0])
    for rows, control in [(table(1, C=1), 0.5), (table(1, C=1, control=0.5), 1.0)]:
        with pytest.raises(InputError, match="without a control input"):
            loop.run(rows, shape=(1, 3), seeds=[0], control=control)


def test_static_networks_fix_the_batch() -> None:
    port = _core.Port("sample", [2, 3])
    made = _core.PythonNetwork([port, _core.Port("timestep", [2])], [port], dict)
    loop = _core.DenoiseLoop(made, control=None, output="sample")
    loop.run(table(1, C=1), shape=(2, 3), seeds=[0, 1])
    loop.run(table(1, C=1, guidance=2), shape=(1, 3), seeds=[0])
    with pytest.raises(InputError, match=r"sample must have shape \(2, 3\) .-1: any., not \(4, 3\)"):
        loop.run(table(1, C=1, guidance=2), shape=(2, 3), seeds=[0, 1])
    with pytest.raises(InputError, match=r"not \(1, 3\)"):
        loop.run(table(2, C=1, guidance=[2, 1]), shape=(1, 3), seeds=[0])


def test_memory_that_no_machine_has() -> None:
    port = _core.Port("sample", [-1, -1])
    made = _core.PythonNetwork([port, _core.Port("timestep", [-1])], [port], dict)
    with pytest.raises(OutOfMemory, match="cannot allocate"):
        _core.DenoiseLoop(made, control=None, output="sample").run(table(1), shape=(1, 2**52), seeds=[0])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_prediction_that_is_not_finite_is_reported(bad: float) -> None:
    loop = _core.DenoiseLoop(network(lambda x, t, c: np.where(t[0] < 5, bad, x)))
    rows = table(3, timestep=[9, 4, 1], C=0.5, D=0.5, A=0.5, B=0.5, clip=0.0)
    with pytest.raises(BackendError, match=r"step 1 of 3 .timestep 4"):
        loop.run(rows, shape=SHAPE, seeds=[1, 2], condition={"context": ones(2)})
