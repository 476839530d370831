"""A GPU that the CPU plays: the module _core_cuda of tests/cpp/cuda/played, in the folder HOIRT_PLAYED_CUDA.

`make sanitize` builds it and runs the device tests with it. Its kernels are those of csrc/cuda, compiled for
the host; its streams do their work as late as they may, and count what breaks CUDA's rules. torch does not
know such a GPU.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch

FOLDER = os.environ.get("HOIRT_PLAYED_CUDA", "")
_WORK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_kept: list[Any] = []  # a graph may call them again at any time
_errors: list[str] = []


def install() -> None:
    """From now on `hoirt._core_cuda` is the played one."""
    import hoirt

    hoirt.__path__.insert(0, FOLDER)


def _library() -> ctypes.CDLL:
    from hoirt.backends.devices import library

    found = ctypes.CDLL(library())
    found.hoirt_played_faults.restype = ctypes.c_char_p
    found.hoirt_played_is_recording.restype = found.hoirt_played_calm.restype = ctypes.c_bool
    found.hoirt_played_fail.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_int]
    found.hoirt_played_limit.argtypes = [ctypes.c_size_t]
    found.hoirt_played_is_recording.argtypes = [ctypes.c_void_p]
    found.hoirt_played_enqueue.argtypes = [ctypes.c_void_p, _WORK, ctypes.c_void_p]
    found.hoirt_played_check_use.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    found.hoirt_played_copy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    return found


def faults() -> list[str]:
    """What was done against CUDA's rules since the last call, and what went wrong in `enqueue`'s work."""
    found = [*str(_library().hoirt_played_faults().decode()).splitlines(), *_errors]
    _errors.clear()
    return found


def live_blocks() -> int:
    """How many blocks of device memory are allocated."""
    return int(_library().hoirt_played_live_blocks())


def fail(name: str, number: int, error: int) -> None:
    """The call of that CUDA function with that number, counted from 1, will return `error`."""
    _library().hoirt_played_fail(name.encode(), number, error)


@contextlib.contextmanager
def limit(bytes: int) -> Iterator[None]:
    """The device has so many bytes more than are used, or kept by its pool, now."""
    _library().hoirt_played_limit(bytes)
    try:
        yield
    finally:
        _library().hoirt_played_limit(0)


def calm() -> bool:
    """Takes back what did not fail yet; whether there was none of that."""
    return bool(_library().hoirt_played_calm())


def is_recording(stream: int) -> bool:
    return bool(_library().hoirt_played_is_recording(stream))


def enqueue(stream: int, work: Callable[[], Any], arrays: Iterable[Any]) -> None:
    """Has the stream call `work` when it comes to it, and again in each replay of what it records.

    arrays: of NumPy or torch, all that it reads and writes on the device.
    """
    library, memory = _library(), [(_address(array), array.nbytes) for array in arrays]

    def call(_: object) -> None:
        for address, size in memory:
            library.hoirt_played_check_use(address, size)
        try:
            work()
        except Exception as error:
            _errors.append(repr(error))

    called = _WORK(call)
    _kept.append(called)
    library.hoirt_played_enqueue(stream, called, None)


def _address(array: Any) -> int:
    return int(array.data_ptr() if isinstance(array, torch.Tensor) else array.ctypes.data)


def copy(target: int, source: int, size: int, stream: int) -> None:
    """Enqueues a copy on the device, as `hoirt.backends.tensorrt.driver.copy`."""
    assert _library().hoirt_played_copy(target, source, size, stream) == 0


def seen(tensor: Any) -> torch.Tensor:
    """The memory of a `hoirt.DeviceTensor` of the played GPU; it says what is there when it is read."""
    dtype = {"bfloat16": "uint16", "bool": "uint8"}.get(tensor.dtype, tensor.dtype)
    count = int(np.prod(tensor.shape))
    memory = (ctypes.c_uint8 * (count * np.dtype(dtype).itemsize)).from_address(tensor.address)
    values = torch.from_numpy(np.frombuffer(memory, dtype).reshape(tensor.shape))
    return values.view(getattr(torch, tensor.dtype))
