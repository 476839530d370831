"""Memory that engines need while they run, shared by all that run one after the other on a stream."""

from __future__ import annotations

import threading
import weakref
from typing import Protocol


class Memory(Protocol):
    """_core.DeviceTensor."""

    @property
    def address(self) -> int: ...


class Device(Protocol):
    """What is used of _core.Device."""

    @property
    def name(self) -> str: ...
    def empty(self, shape: tuple[int, ...], dtype: str, *, stream: int) -> Memory: ...
    def synchronize(self) -> None: ...


class Block:
    """A piece of device memory that is freed with its last user."""

    def __init__(self, device: Device, size: int, stream: int) -> None:
        self.size = size
        self.memory = device.empty((size,), "uint8", stream=stream)

    @property
    def address(self) -> int:
        return self.memory.address


class Scratch:
    """One block for each stream. A context keeps the block that it was first given: a captured graph has its
    address inside. So a larger one, once needed, serves later contexts only; `reserve` keeps that rare.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self._wanted = 1
        self._blocks: weakref.WeakValueDictionary[int, Block] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()

    def reserve(self, size: int) -> None:
        """The next block will be at least as large."""
        with self._lock:
            self._wanted = max(self._wanted, size)

    def block(self, stream: int, size: int) -> Block:
        """Memory for what runs on `stream`, at least `size` bytes. Raises OutOfMemory."""
        with self._lock:
            block = self._blocks.get(stream)
            if block is None or block.size < size:
                block = Block(self.device, max(size, self._wanted), stream)
                self._blocks[stream] = block
            return block
