"""The devices that tests run on, and torch on a stream of theirs."""

from __future__ import annotations

import contextlib
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


def torch_view(name: str, stream: int) -> contextlib.AbstractContextManager[Any]:
    """torch enqueues on `stream`."""
    if name == "cpu":
        return contextlib.nullcontext()
    return torch.cuda.stream(torch.cuda.ExternalStream(stream))
