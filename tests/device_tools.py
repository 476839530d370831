"""The devices that tests run on, and torch on a stream of theirs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
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


def there(name: str, array: NDArray[Any]) -> Any:
    """The array where a device works."""
    return array if name == "cpu" else device(name).upload(array)


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
