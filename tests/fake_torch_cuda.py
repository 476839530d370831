"""torch.cuda played on the CPU: which stream is current, and which waits for which."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch


class FakeCuda:
    """What the runner asks of torch.cuda, with the order of what it does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[Any] = []
        self.current = "none"
        for name in ("stream", "use_mem_pool", "ExternalStream", "MemPool", "Stream", "current_stream"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))

    def MemPool(self) -> str:  # noqa: N802
        self.calls.append("pool")
        return "pool"

    def ExternalStream(self, handle: int, device: str) -> FakeStream:  # noqa: N802
        return FakeStream(self, f"{device}/{handle}")

    def Stream(self, device: str) -> FakeStream:  # noqa: N802
        return FakeStream(self, "side")

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
