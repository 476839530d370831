"""Callbacks, cancelling, Ctrl-C, threads and memory of the native loop."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hoirt import Cancelled, InputError, _core
from loop_tools import network, table, wave

ROWS = {"A": 1, "B": -0.5, "C": 0.4, "D": 0.5, "F": 0.1, "guidance": 2, "timestep": 10}
ARGUMENTS: dict[str, Any] = {
    "shape": (2, 4, 8, 8),
    "seeds": [1, 2],
    "condition": {"context": np.ones(1, np.float32)},
    "uncondition": {"context": np.zeros(1, np.float32)},
}


def make_loop() -> _core.DenoiseLoop:
    return _core.DenoiseLoop(network(wave))


def test_on_step_sees_every_step() -> None:
    seen: list[_core.StepInfo] = []
    cleans: list[np.ndarray[Any, Any]] = []

    def on_step(info: _core.StepInfo) -> None:
        seen.append(info)
        cleans.append(info.x0)

    rows = table(4, **(ROWS | {"timestep": [40, 30, 20, 10], "F": 0, "C": 0, "D": 1}))
    result = make_loop().run(rows, on_step=on_step, **ARGUMENTS)
    assert [info.step for info in seen] == [0, 1, 2, 3]
    assert {info.steps for info in seen} == {4}
    assert [info.timestep for info in seen] == [40, 30, 20, 10]
    assert [info.seconds for info in seen] == result.step_seconds.tolist()
    np.testing.assert_array_equal(cleans[-1], result.latents)  # with C = F = 0, D = 1 the state is x0
    assert not np.array_equal(cleans[0], cleans[1])
    with pytest.raises(InputError, match="inside on_step only"):
        _ = seen[0].x0


@pytest.mark.parametrize("answer", [False, np.False_])
def test_false_cancels(answer: object) -> None:
    steps: list[int] = []

    def on_step(info: _core.StepInfo) -> object:
        steps.append(info.step)
        return answer if info.step == 2 else True

    with pytest.raises(Cancelled, match="after step 2 of 9"):
        make_loop().run(table(9, **ROWS), on_step=on_step, **ARGUMENTS)
    assert steps == [0, 1, 2]


@pytest.mark.parametrize("answer", [None, True, 0, "", []])
def test_only_false_cancels(answer: object) -> None:
    make_loop().run(table(3, **ROWS), on_step=lambda info: answer, **ARGUMENTS)


def test_exceptions_of_the_callback_pass_unchanged() -> None:
    error = LookupError("mine")

    def on_step(info: _core.StepInfo) -> None:
        raise error

    with pytest.raises(LookupError) as caught:
        make_loop().run(table(3, **ROWS), on_step=on_step, **ARGUMENTS)
    assert caught.value is error


def test_token_from_the_callback_and_from_another_thread() -> None:
    loop, token = make_loop(), _core.CancelToken()
    assert not token.cancelled
    with pytest.raises(Cancelled, match="token"):
        loop.run(table(9, **ROWS), on_step=lambda info: token.cancel(), cancel=token, **ARGUMENTS)
    assert token.cancelled
    with pytest.raises(Cancelled):
        loop.run(table(9, **ROWS), cancel=token, **ARGUMENTS)

    other, started = _core.CancelToken(), threading.Event()
    canceller = threading.Thread(target=lambda: (started.wait(30), other.cancel()))
    canceller.start()
    with pytest.raises(Cancelled):
        loop.run(table(100_000, **ROWS), on_step=lambda info: started.set(), cancel=other, **ARGUMENTS)
    canceller.join()


def test_the_loop_works_on_after_a_cancelled_run() -> None:
    loop = make_loop()
    wanted = loop.run(table(5, **ROWS), **ARGUMENTS).latents
    with pytest.raises(Cancelled):
        loop.run(table(5, **ROWS), on_step=lambda info: False, **ARGUMENTS)
    np.testing.assert_array_equal(loop.run(table(5, **ROWS), **ARGUMENTS).latents, wanted)


# The network is the built-in `dict`: no Python bytecode runs that could notice the signal, so the loop must.
SCRIPT = """
    import numpy as np
    from types import SimpleNamespace
    from hoirt import _core

    port = _core.Port("sample", [-1, -1, -1])
    time = _core.Port("timestep", [-1])
    network = _core.PythonNetwork([port, time], [port], dict)
    loop = _core.DenoiseLoop(network, control=None, output="sample")
    steps = 100_000
    rows = _core.StepTable.from_columns(timestep=np.zeros(steps), C=np.zeros(steps), F=np.ones(steps))
    try:
        print("ready", flush=True)
        loop.run(rows, shape=(1, 4, 20_000), seeds=[0])
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def listen_to_ctrl_c() -> None:
    """What a shell starts in the background ignores SIGINT, and so do its children unless told otherwise."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=listen_to_ctrl_c,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert output == "interrupted\n"
    assert process.returncode == 0


def test_eight_threads_give_the_same_bits() -> None:
    loop, rows = make_loop(), _core.StepTable.of(table(3, **ROWS))
    wanted = loop.run(rows, **ARGUMENTS).latents
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: loop.run(rows, **ARGUMENTS).latents, range(8 * 50)))
    assert all(np.array_equal(result, wanted) for result in results)


def test_results_are_the_callers_own() -> None:
    loop = make_loop()
    first = loop.run(table(2, **ROWS), **ARGUMENTS).latents
    copy = first.copy()
    loop.run(table(2, **ROWS), **(ARGUMENTS | {"seeds": [8, 9]}))
    np.testing.assert_array_equal(first, copy)
    first[:] = 0  # writable


def test_the_loop_keeps_its_network_and_lets_go_of_it() -> None:
    class Function:
        def __call__(self, inputs: dict[str, Any]) -> dict[str, Any]:
            return {"prediction": inputs["sample"]}

    function = Function()
    watch = weakref.ref(function)
    port = _core.Port("sample", [-1, -1, -1])
    made = _core.PythonNetwork(
        [port, _core.Port("timestep", [-1])], [_core.Port("prediction", [-1, -1, -1])], function
    )
    loop = _core.DenoiseLoop(made, control=None)
    del made, function
    assert watch() is not None
    latents = loop.run(table(1, C=1), shape=(1, 1, 4), seeds=[0]).latents
    del loop
    assert watch() is None
    assert np.isfinite(latents).all()
