"""torch.cuda played on the CPU: which stream is current, and which waits for which."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch


class FakeCuda:
    """What the runner asks of torch.cuda, with the order of what it does."""

    own = 99  # the device's own stream

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[Any] = []
        self.current = "none"
        self.shortages, self.free = 0, 1 << 30
        names = ("stream", "use_mem_pool", "ExternalStream", "MemPool", "current_stream")
        for name in (*names, "memory_stats", "mem_get_info", "empty_cache", "synchronize"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))

        device = SimpleNamespace(stream=lambda: self.own)
        monkeypatch.setattr("hoirt.backends.aoti.runtime.open_device", lambda name: device)
        side = SimpleNamespace(handle="side", close=lambda: self.calls.append("side closed"))
        monkeypatch.setattr("hoirt.backends.aoti.runtime.SideStream", lambda index: side)

    def memory_stats(self, device: str) -> dict[str, int]:
        return {"num_ooms": self.shortages}

    def mem_get_info(self, device: str) -> tuple[int, int]:
        return self.free, 1 << 30

    def empty_cache(self) -> None:
        self.calls.append("cache emptied")

    def synchronize(self, device: str) -> None:
        self.calls.append(f"{device} waited for")

    def MemPool(self) -> str:  # noqa: N802
        self.calls.append("pool")
        return "pool"

    def ExternalStream(self, handle: int | str, device: str) -> FakeStream:  # noqa: N802
        return FakeStream(self, f"{device}/{handle}")

    def current_stream(self) -> FakeStream:
        return FakeStream(self, self.current)

    @contextlib.contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        before, self.current = self.current, stream.name
        yield
        self.current = before

    @contextlib.contextmanager
    def use_mem_pool(self, pool: str, device: str) -> Iterator[None]:
        yield


class FakeStream:
    def __init__(self, cuda: FakeCuda, name: str) -> None:
        self.cuda, self.name = cuda, name

    def wait_stream(self, other: FakeStream) -> None:
        self.cuda.calls.append(f"{self.name} waits for {other.name}")
