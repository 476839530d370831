"""Work that may find too little memory: what is kept for later calls goes before a picture fails."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

from hoirt.backends.idle import free_idle
from hoirt.errors import OutOfMemory

if TYPE_CHECKING:
    from hoirt._core import Device

T = TypeVar("T")


def with_memory(device: Device | None, work: Callable[[], T]) -> T:
    """What `work` gives. Where it finds too little memory on the device, None for the host, what the process
    keeps there for later calls is given back, and it begins again. Raises OutOfMemory if that is not enough.
    """
    with _out_of_memory():
        try:
            return work()
        except OutOfMemory as error:
            if device is None:
                raise
            let_go(error)
        free_idle(device)
        return work()


def let_go(error: BaseException | None) -> None:
    """Takes the local variables from the functions that an error has ended; where it was raised stays told.

    The caller keeps a result as long as he likes, and with its error he would keep the memory of that
    picture, which on a GPU may be the one that there was not enough of.
    """
    while error is not None:
        for ended, _ in traceback.walk_tb(error.__traceback__):
            frame: FrameType | None = ended
            with suppress(RuntimeError):  # of one that still runs, as then do all its callers
                while frame is not None:
                    frame.clear()
                    frame = frame.f_back
        error = error.__cause__


@contextmanager
def _out_of_memory() -> Iterator[None]:
    try:
        yield
    except OutOfMemory:
        raise
    except MemoryError as error:
        raise OutOfMemory(f"there is not enough memory: {error}") from error
