"""Networks from Python functions, and backends from shared objects."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hoirt import BackendError, InputError, _core

X, Y = _core.Port("x", [-1, 3]), _core.Port("y", [-1, 3])


def make(fn: Any, outputs: list[_core.Port] | None = None) -> _core.PythonNetwork:
    return _core.PythonNetwork([X], outputs or [Y], fn)


def test_run() -> None:
    made = make(lambda inputs: {"y": inputs["x"] * 2})
    assert [(port.name, port.shape, port.dtype) for port in made.inputs] == [("x", (-1, 3), "float32")]
    assert made.outputs[0].name == "y"
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(made.run({"x": x})["y"], 2 * x)
    np.testing.assert_array_equal(made.run({"x": torch.from_numpy(x)})["y"], 2 * x)
    np.testing.assert_array_equal(made.run({"x": x[:0]})["y"], x[:0])


def test_results_do_not_share_memory_with_the_functions_arrays() -> None:
    kept = np.zeros((1, 3), np.float32)
    out = make(lambda inputs: {"y": kept}).run({"x": kept})["y"]
    kept[:] = 5
    np.testing.assert_array_equal(out, np.zeros((1, 3)))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "the input 'x' is missing"),
        ({"x": np.zeros((1, 3), np.float32), "z": np.zeros(1)}, "no input 'z'; it has x"),
        ({"x": np.zeros((1, 4), np.float32)}, r"x must have shape \(-1, 3\)"),
        ({"x": np.zeros(3, np.float32)}, "x must have shape"),
        ({"x": np.zeros((1, 3))}, "x must hold float32, not float64"),
        ({"x": "text"}, "must be an array"),
        (7, "inputs"),
    ],
)
def test_wrong_inputs(inputs: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(lambda given: {"y": given["x"]}).run(inputs)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, "must be a dict"),
        ({}, "must be a dict that holds it"),
        ({"y": np.zeros((1, 4), np.float32)}, "must have shape"),
        ({"y": np.zeros((1, 3))}, "must hold float32"),
        ({"y": [1.0, 2.0, 3.0]}, "must be an array"),
    ],
)
def test_wrong_results(result: Any, message: str) -> None:
    with pytest.raises(BackendError, match=f"wrong 'y'.*{message}"):
        make(lambda inputs: result).run({"x": np.zeros((1, 3), np.float32)})


def test_exceptions_of_the_function_pass_unchanged() -> None:
    error = LookupError("mine")

    def fail(inputs: Any) -> Any:
        raise error

    with pytest.raises(LookupError) as caught:
        make(fail).run({"x": np.zeros((1, 3), np.float32)})
    assert caught.value is error


def test_the_gil_is_free_while_a_network_runs() -> None:
    first, second = threading.Event(), threading.Event()

    def meet(inputs: Any) -> Any:
        # Each call waits for the other: both are inside run() at once.
        mine, other = (first, second) if inputs["x"][0, 0] == 1 else (second, first)
        mine.set()
        assert other.wait(30)
        return {"y": inputs["x"]}

    made = make(meet)
    threads = [
        threading.Thread(target=made.run, args=({"x": np.full((1, 3), i, np.float32)},)) for i in (1, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert first.is_set() and second.is_set()


def test_wrong_ports_and_functions() -> None:
    with pytest.raises(InputError, match="unknown dtype 'float8'"):
        _core.Port("x", [1], "float8")
    with pytest.raises(InputError, match="extents of a port"):
        _core.Port("x", [-2])
    with pytest.raises(InputError, match="shape"):
        _core.Port("x", "abc")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="callable"):
        make(5)


def test_backends_that_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="path of its shared object"):
        _core.open_backend("libm.so.6")
    with pytest.raises(BackendError, match=r"cannot load the backend .*missing.so.*No such file"):
        _core.open_backend(str(tmp_path / "missing.so"))
    (tmp_path / "text.so").write_text("not a shared object")
    with pytest.raises(BackendError, match=r"cannot load the backend .*text.so"):
        _core.open_backend(str(tmp_path / "text.so"))
    with pytest.raises(BackendError, match="not a hoirt backend"):
        _core.open_backend(_core.__file__)
