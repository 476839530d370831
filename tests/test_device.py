"""Devices, DeviceTensor and DeviceNetwork: on the CPU always, on CUDA where there is a device."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest
import torch
from device_tools import needs_torch, on_stream, torch_view
from hoirt import BackendError, InputError, _core
from hoirt.backends import devices

Inputs = dict[str, Any]


def test_devices_are_opened_once(place: str) -> None:
    opened = devices.open_device(place)
    assert devices.open_device(place) is opened
    assert opened.device == place and opened.name
    free, total = opened.memory()
    assert 0 < free <= total
    assert (opened.stream() == 0) == (place == "cpu")
    assert bool(opened.no_graphs) == (place == "cpu")
    opened.synchronize()
    opened.trim()


def test_a_device_calls_what_must_not_meet_a_recording(place: str) -> None:
    opened = devices.open_device(place)
    kept: list[int] = []
    assert opened.call(lambda: opened.call(lambda: kept.append(1) or "done")) == "done"
    assert kept == [1]
    with pytest.raises(KeyError, match="no such"):
        opened.call(lambda: {}["no such"])
    with pytest.raises(TypeError):
        opened.call(7)  # type: ignore[arg-type]
    assert opened.call(lambda: None) is None


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:99999", "cpu:0"])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="unknown device"):
        devices.open_device(name)


def test_what_is_no_module_of_devices_says_why() -> None:
    with pytest.raises(BackendError, match="cannot load the module of devices /nowhere"):
        _core.open_device("cuda:0", "/nowhere/module.so")
    assert _core.__spec__ is not None
    with pytest.raises(BackendError, match="no symbol hoirt_create_device"):
        _core.open_device("cuda:0", str(_core.__spec__.origin))


def test_a_cuda_device_or_the_reason_why_not() -> None:
    try:
        opened = devices.open_device("cuda")
    except BackendError as error:
        assert "CUDA" in str(error)
    else:
        assert opened.device == "cuda:0"


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3, 5)])
def test_tensors_go_there_and_come_back(place: str, dtype: str, shape: tuple[int, ...]) -> None:
    array = np.asarray(np.random.default_rng(0).integers(0, 2, shape), dtype)
    tensor = devices.open_device(place).upload(array)
    assert tensor.shape == shape and tensor.dtype == dtype and tensor.device == place
    np.testing.assert_array_equal(tensor.numpy(), array)
    assert tensor.numpy().dtype == array.dtype
    assert repr(tensor) == f"DeviceTensor(shape={tuple_text(shape)}, dtype={dtype}, device={place})"


def tuple_text(shape: tuple[int, ...]) -> str:
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8])
def test_torch_shares_the_memory(place: str, dtype: torch.dtype) -> None:
    needs_torch(place)
    tensor = devices.open_device(place).empty((2, 3), str(dtype).removeprefix("torch."))
    shared = torch.from_dlpack(tensor)
    assert shared.dtype == dtype and shared.shape == (2, 3)
    assert shared.data_ptr() == tensor.address
    shared.fill_(3)
    if place != "cpu":
        torch.cuda.synchronize()
    values = tensor.numpy()
    bits = np.uint16(0x4040) if dtype == torch.bfloat16 else 3
    assert (values == bits).all()


def test_exports_that_cannot_be_are_refused(place: str) -> None:
    tensor = devices.open_device(place).upload(np.ones(2, np.float32))
    with pytest.raises(BufferError):
        tensor.__dlpack__(copy=True)
    with pytest.raises(BufferError):
        tensor.__dlpack__(dl_device=(2, 7))


def test_what_is_there_is_shared(place: str) -> None:
    """An upload of what lies on the device already, from hoirt and from torch, is the memory itself."""
    needs_torch(place)
    opened = devices.open_device(place)
    tensor = opened.upload(np.arange(4, dtype=np.float32))
    there = torch.arange(4, dtype=torch.float32, device=place)
    for source, address in ((tensor, tensor.address), (there, there.data_ptr())):
        shared = opened.upload(source)
        assert shared.address == address
        np.testing.assert_array_equal(torch.from_dlpack(shared).cpu().numpy(), np.arange(4))
    del there  # what was lent stays as long as it is used
    np.testing.assert_array_equal(shared.numpy(), np.arange(4))


def test_what_is_written_in_place_is_ready_when_it_is_shared(place: str) -> None:
    needs_torch(place)
    opened = devices.open_device(place)
    target = opened.upload(np.zeros((64, 64, 3), np.uint8))
    opened.copy(np.full((64, 64, 3), 7, np.uint8), target)
    assert (torch.from_dlpack(target).cpu().numpy() == 7).all()
    patch = opened.upload(np.full((64, 64, 3), 9, np.float32))
    _core.paste_into(target, patch, opened.upload(np.ones((64, 64), np.float32)), 0, 0)
    assert (torch.from_dlpack(target).cpu().numpy() == 9).all()


@pytest.mark.parametrize("wrong", [3, "text", None, np.array(["a"]), np.ones(2, ">f4"), object()])
def test_uploads_of_what_is_no_array_are_refused(place: str, wrong: object) -> None:
    with pytest.raises(InputError, match="array"):
        devices.open_device(place).upload(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(-1,), ("a",), 3, (2**62, 2**62)])
def test_wrong_shapes_are_refused(place: str, shape: Any) -> None:
    with pytest.raises(InputError):
        devices.open_device(place).empty(shape)


def ports(*names: str, dtype: str = "float32") -> list[_core.Port]:
    return [_core.Port(name, [-1, -1], dtype) for name in names]


def test_a_network_is_given_what_it_fills(place: str) -> None:
    calls = []

    net = _core.DeviceNetwork(ports("sample"), ports("prediction"), fill_double(place, calls), device=place)
    assert net.device == place and net.capturable
    loop = _core.DenoiseLoop(net, timestep=None, control=None, device=devices.open_device(place))
    rows = _core.StepTable.of(plain_table(2))
    state = np.arange(6, dtype=np.float32).reshape(2, 3)
    latents = loop.run(rows, shape=(2, 3), seeds=[1, 2], initial=state).latents
    np.testing.assert_array_equal(np.asarray(latents if place == "cpu" else latents.numpy()), 4 * state)
    assert calls[0] == ({"sample"}, {"prediction"}, calls[0][2]) and (calls[0][2] == 0) == (place == "cpu")


def plain_table(steps: int) -> Any:
    """x' = prediction, from the given state."""
    from loop_tools import table

    return table(steps, B=1, D=1, init_signal=1.0, init_noise=0.0)


def multiply(sample: torch.Tensor, out: torch.Tensor) -> None:
    torch.mul(sample, 2, out=out)


def fill_double(place: str, calls: list[Any]) -> Any:
    def double(inputs: Inputs, outputs: Inputs, stream: int) -> None:
        calls.append((set(inputs), set(outputs), stream))
        on_stream(place, stream, multiply, inputs["sample"], outputs["prediction"])

    return double


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8])
def test_a_network_lends_what_it_was_not_given(place: str, dtype: torch.dtype) -> None:
    """Outputs given as None are borrowed from the function, without a copy, as long as they are used."""
    needs_torch(place)
    made = []
    name = str(dtype).removeprefix("torch.")

    def run(inputs: Inputs, outputs: Inputs, stream: int) -> dict[str, Any]:
        assert outputs == {"y": None}
        with torch_view(place, stream):
            y = torch.full((2, 3), 5, dtype=dtype, device=place)
        made.append((y.data_ptr(), weakref.ref(y)))
        return {"y": y}

    net = _core.DeviceNetwork(ports("x"), ports("y", dtype=name), run, device=place)
    result: Any = net.run({"x": np.zeros((1, 1), np.float32)})["y"]
    address, _ = made[0]
    values = result if place == "cpu" else result.numpy()
    assert address == (result.ctypes.data if place == "cpu" else result.address)
    assert (values == (np.uint16(0x40A0) if dtype == torch.bfloat16 else 5)).all()


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, "given as None"),
        ({}, "given as None"),
        ({"y": np.zeros((2, 2))}, "must hold float32"),
        ({"y": np.zeros(2, np.float32)}, "must have shape"),
        ({"y": torch.zeros(4, 4)[:, ::2]}, "contiguous"),
        ({"y": 3}, "DLPack"),
        ({"y": torch.zeros(2, 2, dtype=torch.complex64)}, "must hold"),
        ([1], "given as None"),
    ],
)
def test_wrong_results_are_named(returned: Any, words: str) -> None:
    net = _core.DeviceNetwork(ports("x"), ports("y"), lambda *_: returned, device="cpu")
    with pytest.raises(BackendError, match=rf"wrong 'y': .*{words}"):
        net.run({"x": np.zeros((1, 1), np.float32)})


def test_returning_what_was_to_be_filled_is_an_error() -> None:
    def run(inputs: Inputs, outputs: Inputs, stream: int) -> dict[str, Any]:
        return {"prediction": inputs["sample"] * 2}

    net = _core.DeviceNetwork(ports("sample"), ports("prediction"), run, device="cpu")
    loop = _core.DenoiseLoop(net, timestep=None, control=None)
    with pytest.raises(BackendError, match="fill in place"):
        loop.run(plain_table(1), shape=(1, 2), seeds=[1], initial=np.ones((1, 2), np.float32))


def test_exceptions_of_the_function_pass() -> None:
    class OddError(Exception):
        pass

    for kind in (OddError, KeyboardInterrupt):

        def run(*_: Any, kind: type[BaseException] = kind) -> None:
            raise kind("mine")

        net = _core.DeviceNetwork(ports("x"), ports("y"), run, device="cpu")
        with pytest.raises(kind, match="mine"):
            net.run({"x": np.zeros((1, 1), np.float32)})


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="callable"):
        _core.DeviceNetwork([], [], 3, device="cpu")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="unknown device"):
        _core.DeviceNetwork([], [], print, device="tpu")
    net = _core.DeviceNetwork(ports("sample"), ports("prediction"), lambda *_: None, device="cuda:0")
    with pytest.raises(InputError, match="the network runs on cuda:0, but the loop on cpu"):
        _core.DenoiseLoop(net, timestep=None, control=None)


def test_bfloat16_is_shown_as_its_bits() -> None:
    def run(inputs: Inputs, outputs: Inputs, stream: int) -> dict[str, Any]:
        return {"y": (inputs["x"].view(np.uint32) >> 16).astype(np.uint16)}

    net = _core.DeviceNetwork(ports("x"), ports("y", dtype="bfloat16"), run, device="cpu")
    out: Any = net.run({"x": np.ones((2, 2), np.float32)})["y"]
    assert out.dtype == np.uint16 and (out == 0x3F80).all()
