"""The devices that tests run on, and torch on a stream of theirs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import played_cuda
import pytest
import torch
from hoirt import HoirtError
from hoirt.backends import devices
from numpy.typing import NDArray


def device(name: str) -> Any:
    """The opened device; skips the test with the reason where there is none."""
    try:
        return devices.open_device(name)
    except HoirtError as error:
        pytest.skip(f"no {name} here: {error}")


def shifted(name: str, array: NDArray[Any], shift: int) -> Any:
    """The array in a device's memory, the CPU's too, `shift` elements behind a multiple of 16 bytes."""
    flat = np.concatenate([np.zeros(shift, array.dtype), array.ravel()])
    return device(name).upload(flat).rows(shift, flat.size).reshape(array.shape)


def needs_torch(name: str) -> None:
    """Skips the test where torch does not know the device."""
    if name != "cpu" and not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")


def there(name: str, array: NDArray[Any]) -> Any:
    """The array where a device works."""
    return array if name == "cpu" else device(name).upload(array)


def moved(name: str, tensor: torch.Tensor) -> Any:
    """torch's tensor where a device works; of any dtype, as NumPy has no bfloat16."""
    if name == "cpu" or not played_cuda.FOLDER:
        return tensor.to(name)
    made = device(name).empty(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
    device(name).synchronize()
    played_cuda.seen(made).copy_(tensor)
    return made


def back(result: Any) -> NDArray[Any]:
    return result if isinstance(result, np.ndarray) else np.asarray(result.numpy())


# What a captured graph writes to must not be given to anyone else.
POOLS: list[Any] = []


@contextlib.contextmanager
def torch_view(name: str, stream: int) -> Iterator[None]:
    """torch enqueues on `stream`; in a capture it takes memory from a pool that nothing else uses."""
    if name == "cpu":
        yield
        return
    with torch.cuda.stream(torch.cuda.ExternalStream(stream)):
        if not torch.cuda.is_current_stream_capturing():
            yield
            return
        POOLS.append(torch.cuda.MemPool())
        with torch.cuda.use_mem_pool(POOLS[-1]):
            yield


def is_recording(name: str, stream: int) -> bool:
    """Whether the stream records a graph."""
    if name == "cpu":
        return False
    if played_cuda.FOLDER:
        return played_cuda.is_recording(stream)
    with torch_view(name, stream):
        return torch.cuda.is_current_stream_capturing()


def on_stream(name: str, stream: int, work: Callable[..., Any], *arrays: Any) -> None:
    """Enqueues `work` of the arrays, which it is given as torch's tensors."""
    if name != "cpu" and played_cuda.FOLDER:
        tensors = [played_cuda.seen(array) for array in arrays]
        played_cuda.enqueue(stream, lambda: work(*tensors), tensors)
        return
    with torch_view(name, stream):
        work(*map(torch.from_dlpack, arrays))
