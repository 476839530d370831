"""Tensor: arrays cross libraries by DLPack and the array interface, without copies or dangling memory."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest
import torch
from hoirt import InputError, _core
from torch.utils.dlpack import from_dlpack

DTYPES = ["float32", "float64", "float16", "int32", "int64", "uint8", "bool"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (0, 4), (2, 3, 4)])
def test_round_trips(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.asarray(np.arange(np.prod(shape, dtype=int)).reshape(shape) % 2, dtype)
    tensor = _core.Tensor(array)
    assert tensor.shape == shape and tensor.dtype == dtype
    assert tensor.__dlpack_device__() == (1, 0)
    for back in (
        tensor.numpy(),
        np.asarray(tensor),
        np.from_dlpack(tensor),
        from_dlpack(tensor).numpy(),
    ):
        assert back.dtype == array.dtype and back.shape == shape
        np.testing.assert_array_equal(back, array)
    again = _core.Tensor(torch.from_numpy(array.copy()))
    np.testing.assert_array_equal(_core.Tensor(again).numpy(), array)


def test_memory_is_shared() -> None:
    source = torch.zeros(2, 3)
    tensor = _core.Tensor(source)
    source[1, 2] = 5
    views = [tensor.numpy(), np.asarray(tensor), from_dlpack(tensor).numpy(), np.from_dlpack(tensor)]
    assert all(view[1, 2] == 5 for view in views)
    views[0][0, 0] = 7
    assert source[0, 0] == 7
    assert np.from_dlpack(tensor, copy=True).ctypes.data != tensor.numpy().ctypes.data


@pytest.mark.parametrize("make", [lambda a: a.T, lambda a: a[:, ::2], lambda a: a[::-1]])
def test_other_layouts_are_copied(make: Any) -> None:
    array = make(np.arange(12, dtype=np.float32).reshape(3, 4))
    np.testing.assert_array_equal(_core.Tensor(array).numpy(), array)
    if min(array.strides) > 0:
        np.testing.assert_array_equal(_core.Tensor(torch.from_numpy(array)).numpy(), array)


def test_unaligned_memory_is_copied() -> None:
    array = np.frombuffer(b"\0" + np.arange(4, dtype=np.float64).tobytes(), np.float64, offset=1)
    np.testing.assert_array_equal(_core.Tensor(array).numpy(), np.arange(4.0))


def test_buffers_are_taken() -> None:
    np.testing.assert_array_equal(_core.Tensor(bytearray(b"\1\2")).numpy(), [1, 2])


def test_read_only_stays_read_only() -> None:
    array = np.arange(3.0)
    array.flags.writeable = False
    tensor = _core.Tensor(array)
    assert not tensor.numpy().flags.writeable
    assert not np.from_dlpack(tensor).flags.writeable  # asks for version 1, which can say so
    assert np.asarray(tensor.__array_interface__["data"][1])
    with pytest.raises(BufferError, match="read-only"):
        tensor.__dlpack__()
    assert np.from_dlpack(tensor, copy=True).tolist() == [0, 1, 2]


def test_memory_outlives_its_owners() -> None:
    class Owner(np.ndarray[Any, Any]):
        pass

    source = np.arange(1000.0).view(Owner)
    watch = weakref.ref(source)
    tensor = _core.Tensor(source)
    del source
    view, shared, capsule = tensor.numpy(), from_dlpack(tensor), tensor.__dlpack__()
    del tensor
    assert watch() is not None
    assert view[999] == 999 and shared[999] == 999
    del view, shared
    assert watch() is not None  # the capsule that nobody consumed
    del capsule
    assert watch() is None


class OnDevice:
    """A DLPack array that claims to be elsewhere."""

    def __init__(self, device: Any) -> None:
        self.device = device

    def __dlpack_device__(self) -> Any:
        return self.device

    def __dlpack__(self, **options: Any) -> Any:
        raise AssertionError("memory on another device must not be asked for")


@pytest.mark.parametrize("device", [(2, 0), (3, 0), (10, 1)])
def test_other_devices_are_refused(device: tuple[int, int]) -> None:
    with pytest.raises(
        InputError, match=rf"must be on the CPU, not on DLPack device \({device[0]}, {device[1]}\)"
    ):
        _core.Tensor(OnDevice(device))


@pytest.mark.parametrize(
    "wrong",
    [
        OnDevice("cuda"),
        OnDevice(None),
        None,
        5,
        "text",
        [1.0, 2.0],
        torch.zeros(2, dtype=torch.bfloat16),
        torch.zeros(2, requires_grad=True),
        torch.zeros(2, device="meta"),
        np.zeros(2, np.complex64),
        np.zeros(2, np.int16),
        np.zeros(2, ">f4"),
        np.array(["a"]),
        np.array([object()]),
        np.zeros(2, [("a", np.float32)]),
    ],
)
def test_what_is_no_such_array_is_refused(wrong: object) -> None:
    with pytest.raises(InputError, match=r"^array"):
        _core.Tensor(wrong)  # type: ignore[arg-type]


def test_exports_refuse_what_they_cannot_do() -> None:
    tensor = _core.Tensor(np.zeros(2, np.float32))
    with pytest.raises(BufferError, match="on the CPU"):
        tensor.__dlpack__(dl_device=(2, 0))
    with pytest.raises(InputError, match="no stream"):
        tensor.__dlpack__(stream=1)
    assert '"dltensor"' in repr(tensor.__dlpack__())
    assert '"dltensor_versioned"' in repr(tensor.__dlpack__(max_version=(1, 0)))
    assert repr(tensor) == "Tensor(shape=(2,), dtype=float32)"
