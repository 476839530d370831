"""Streams and events of the CUDA driver: work on a stream of its own, in the order of another."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hoirt.errors import BackendError

NON_BLOCKING, NO_TIMING = 1, 2  # CU_STREAM_NON_BLOCKING, CU_EVENT_DISABLE_TIMING


@functools.cache
def library() -> Any:
    """libcuda, which comes with the driver of the GPU."""
    try:
        found = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise BackendError(f"the CUDA driver cannot be loaded: {error}") from error
    check(found, found.cuInit(0), "cuInit")
    return found


def check(driver: Any, code: int, what: str) -> None:
    """Raises BackendError for a result that is not CUDA_SUCCESS."""
    if code:
        text = ctypes.c_char_p()
        driver.cuGetErrorString(code, ctypes.byref(text))
        raise BackendError(f"{what} failed: {(text.value or b'').decode() or code}")


class SideStream:
    """A stream of its own on one device, which can be put into the order of any other stream.

    A runtime that is bound to one stream when it is made can so serve callers on all streams; while one of
    them is captured, its work becomes part of that graph.
    """

    def __init__(self, index: int, driver: Any = None) -> None:
        """On the CUDA device `index`; `driver` stands in for libcuda."""
        self._driver = driver or library()
        self._context, self._stream = ctypes.c_void_p(), ctypes.c_void_p()
        self._before, self._after = ctypes.c_void_p(), ctypes.c_void_p()
        self._index = index
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), index)
        with self._current():
            self._call("cuStreamCreate", ctypes.byref(self._stream), NON_BLOCKING)
            for event in (self._before, self._after):
                self._call("cuEventCreate", ctypes.byref(event), NO_TIMING)

    @property
    def handle(self) -> int:
        """The cudaStream_t."""
        return int(self._stream.value or 0)

    @contextmanager
    def inside(self, stream: int) -> Iterator[None]:
        """What the block enqueues on this stream comes after what is on `stream` and before what follows.

        Not for two threads at once.
        """
        caller = ctypes.c_void_p(stream)
        with self._current():
            self._call("cuEventRecord", self._before, caller)
            self._call("cuStreamWaitEvent", self._stream, self._before, 0)
        yield
        with self._current():
            self._call("cuEventRecord", self._after, self._stream)
            self._call("cuStreamWaitEvent", caller, self._after, 0)

    def close(self) -> None:
        """Waits for the stream and gives everything back. Nothing may run on it any more."""
        if self._stream.value:
            with self._current():
                self._call("cuStreamSynchronize", self._stream)
                for event in (self._before, self._after):
                    self._call("cuEventDestroy_v2", event)
                self._call("cuStreamDestroy_v2", self._stream)
            self._stream = ctypes.c_void_p()
            self._call("cuDevicePrimaryCtxRelease_v2", self._index)

    @contextmanager
    def _current(self) -> Iterator[None]:
        self._call("cuCtxPushCurrent_v2", self._context)
        try:
            yield
        finally:
            self._call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))

    def _call(self, name: str, *arguments: Any) -> None:
        check(self._driver, getattr(self._driver, name)(*arguments), name)
