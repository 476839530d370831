"""The denoise loop with a network in Python on a device: the CPU's values, graphs, cancelling, memory."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from device_tools import device
from hoirt import BackendError, Cancelled, InputError, _core
from loop_device_tools import Network, arguments, values
from loop_tools import table
from numpy.typing import NDArray


def test_the_values_of_the_cpu(place: str) -> None:
    wanted = values(Network("cpu").loop().run(**arguments(9)).latents)
    network = Network(place)
    loop = network.loop()
    for again in range(3):
        result = loop.run(**arguments(9))
        np.testing.assert_allclose(values(result.latents), wanted, rtol=0, atol=1e-5)
        assert result.step_seconds.shape == (9,) and (result.step_seconds >= result.network_seconds).all()
        if place == "cpu":
            assert result.graphs == 0 and "CPU" in result.graph_reason
        else:
            assert result.graph_reason == "" and result.graphs == (7 if again == 0 else 9)
            assert network.calls == 4


def test_twins_come_by_halves(place: str) -> None:
    """Where both halves of a guided batch are alike in all of them; in other steps nothing is halved."""
    twins = ["sample", "timestep", "control_scale", "style"]
    given = arguments(6)
    wanted = values(Network("cpu").loop().run(**given).latents)
    network = Network(place, twins=twins)
    assert network.native.twins == twins and Network(place).native.twins == []
    np.testing.assert_allclose(values(network.loop().run(**given).latents), wanted, rtol=0, atol=1e-5)
    assert network.items == {(2, 2, 2, 4, 2), (2, 2, 2, 2, 2)}
    given["per_step_uncondition"] = {"style": np.zeros(6, np.float32)}
    wanted = values(Network("cpu").loop().run(**given).latents)
    network = Network(place, twins=twins)
    np.testing.assert_allclose(values(network.loop().run(**given).latents), wanted, rtol=0, atol=1e-5)
    assert network.items == {(4, 4, 4, 4, 4), (2, 2, 2, 2, 2)}
    with pytest.raises(InputError, match=r"no input 'strange'.*twin"):
        Network(place, twins=["strange"])


def test_arguments_on_the_device(place: str) -> None:
    given = arguments(6)
    network = Network(place)
    wanted = values(network.loop().run(**given).latents)
    there = device(place).upload
    for name in ("initial", "known", "mask"):
        given[name] = there(given[name])
    given["condition"] = {"context": there(given["condition"]["context"])}
    if place == "cpu":
        pytest.skip("on the CPU they are NumPy arrays")
    np.testing.assert_array_equal(values(network.loop().run(**given).latents), wanted)


@pytest.mark.parametrize("number", [np.nan, -np.inf, 1.5])
@pytest.mark.parametrize("name", ["initial", "known", "mask", "context", "style"])
def test_wrong_arguments_on_the_device_are_named(place: str, name: str, number: float) -> None:
    """Without waiting for their checks before the first step; the next run is as if nothing had been."""
    given, loop = arguments(6), Network(place).loop()
    wanted = values(loop.run(**given).latents)
    put = device(place).upload if place != "cpu" else np.asarray
    holder = {"context": given["condition"], "style": given["per_step"]}.get(name, given)
    array = np.array(holder[name])
    array.flat[-1] = number
    holder[name] = put(array)
    if number == 1.5 and name != "mask":
        loop.run(**given)
        return
    words = f"{name}.* holds NaN or infinity" if not np.isfinite(number) else "mask must lie in 0..1"
    with pytest.raises(InputError, match=words):
        loop.run(**given)
    np.testing.assert_array_equal(values(loop.run(**arguments(6)).latents), wanted)


def test_x0_and_cancel_between_steps(place: str) -> None:
    seen: list[NDArray[np.float32]] = []

    def on_step(info: _core.StepInfo) -> bool:
        seen.append(info.x0)
        return info.step < 3

    loop = Network(place).loop()
    with pytest.raises(Cancelled, match="after step 3"):
        loop.run(**arguments(12), on_step=on_step)
    assert len(seen) == 4 and all(np.isfinite(x0).all() for x0 in seen)
    assert not np.array_equal(seen[0], seen[1])
    token = _core.CancelToken()
    token.cancel()
    with pytest.raises(Cancelled, match="token"):
        loop.run(**arguments(4), cancel=token)
    loop.run(**arguments(4))


def test_what_cannot_be_captured_runs_all_the_same(place: str) -> None:
    if place == "cpu":
        pytest.skip("the CPU captures nothing")
    network = Network(place)
    wanted = values(network.loop().run(**arguments(8)).latents)
    network.fail_in_capture = True
    result = network.loop().run(**arguments(8))
    assert result.graphs == 0 and "not in a capture" in result.graph_reason
    np.testing.assert_array_equal(values(result.latents), wanted)
    plain = Network(place, capturable=False).loop().run(**arguments(8))
    assert plain.graphs == 0 and plain.graph_reason
    np.testing.assert_array_equal(values(plain.latents), wanted)


def test_steps_are_not_recorded_while_others_use_the_device(place: str) -> None:
    if place == "cpu":
        pytest.skip("the CPU captures nothing")
    loop = Network(place).loop()
    busy = device(place).call(lambda: loop.run(**arguments(8)))
    assert busy.graphs == 0 and "inside of a network" in busy.graph_reason
    begun, go_on = threading.Event(), threading.Event()

    def occupy() -> None:
        begun.set()
        go_on.wait(10)

    other = threading.Thread(target=device(place).call, args=(occupy,))
    other.start()
    begun.wait()
    beside = Network(place).loop().run(**arguments(8))
    go_on.set()
    other.join()
    assert beside.graphs == 0 and "other threads" in beside.graph_reason
    for _ in range(3):
        free = loop.run(**arguments(8))
    assert free.graphs == 8 and free.graph_reason == ""
    for result in (busy, beside):
        np.testing.assert_array_equal(values(result.latents), values(free.latents))


def test_what_is_not_finite_is_reported(place: str) -> None:
    given = arguments(8)
    given["table"].B[5] = 1e300
    loop = Network(place).loop()
    for _ in range(2):
        with pytest.raises(BackendError, match="step 5 of 8"):
            loop.run(**given)


def test_unload_gives_memory_back(place: str) -> None:
    loop = Network(place).loop()
    opened = device(place)
    big = {"shape": (1, 4, 2048, 2048)}
    rows = table(3, A=1, C=1)
    extra = {
        "condition": {"context": np.zeros(1, np.float32)},
        "per_step": {"style": np.zeros(3, np.float32)},
    }
    latents = loop.run(rows, seeds=[1], **big, **extra).latents
    assert values(latents).shape == big["shape"]
    del latents
    if place == "cpu":
        loop.unload()
        return
    opened.synchronize()
    held = opened.memory()[0]
    loop.unload()
    assert opened.memory()[0] - held >= 2 * 4 * 4 * 2048 * 2048  # state and prediction at least


def test_many_threads_share_a_device(place: str) -> None:
    network = Network(place)
    loop = network.loop()
    wanted = values(loop.run(**arguments(6)).latents)
    wrong = []

    def work() -> None:
        for _ in range(5):
            if not np.array_equal(values(loop.run(**arguments(6)).latents), wanted):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
