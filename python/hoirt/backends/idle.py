"""What loops and networks keep on a device for runs to come, and how it goes where memory is short."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

from hoirt.backends.devices import full_name

if TYPE_CHECKING:
    from hoirt._core import DenoiseLoop, Device


class Runner(Protocol):
    """What runs a network on a device."""

    def free_idle(self, streams: Collection[int]) -> None:
        """Frees what is kept for streams that have no graph; only the device's own may be in use."""


_lock = threading.Lock()
_loops: dict[str, weakref.WeakSet[DenoiseLoop]] = {}
_runners: dict[str, weakref.WeakSet[Runner]] = {}


def keeps_loop(device: Device, loop: DenoiseLoop) -> None:
    """`loop` runs there and keeps buffers and graphs between its runs."""
    with _lock:
        _loops.setdefault(device.device, weakref.WeakSet()).add(loop)


def keeps_runner(device: str, runner: Runner) -> None:
    """`runner` keeps things for each stream of the device, "cuda" or "cuda:N", that it has seen."""
    with _lock:
        _runners.setdefault(full_name(device), weakref.WeakSet()).add(runner)


def free_idle(device: Device) -> None:
    """Gives back to the system what is kept on the device for runs to come; those under way go on."""
    with _lock:
        loops = list(_loops.get(device.device, ()))
        runners = list(_runners.get(device.device, ()))
    for loop in loops:
        loop.free_idle()

    def free(streams: list[int]) -> None:
        for runner in runners:
            runner.free_idle([device.stream(), *streams])

    device.call(lambda: device.with_idle_streams(free))  # nobody records while memory goes
    device.trim()
