"""The devices that tests run on, and torch on a stream of theirs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hoirt import HoirtError
from hoirt.backends import devices

DEVICES = ("cpu", "cuda:0")


def device(name: str) -> Any:
    """The opened device; skips the test with the reason where there is none."""
    try:
        return devices.open_device(name)
    except HoirtError as error:
        pytest.skip(f"no {name} here: {error}")


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
