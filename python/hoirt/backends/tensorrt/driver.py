"""copy(): device memory to device memory on a stream, by the driver that TensorRT runs on anyway."""

from __future__ import annotations

import ctypes
import functools

from hoirt.errors import BackendError


def copy(target: int, source: int, size: int, stream: int) -> None:
    """Enqueues a copy of `size` bytes between two addresses; may be captured. Raises BackendError."""
    code = _driver().cuMemcpyDtoDAsync_v2(
        ctypes.c_uint64(target), ctypes.c_uint64(source), ctypes.c_size_t(size), ctypes.c_void_p(stream)
    )
    if code:
        raise BackendError(f"copying {size} bytes on the GPU failed: CUDA driver error {code}")


@functools.cache
def _driver() -> ctypes.CDLL:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise BackendError(f"the driver of the GPU cannot be loaded: {error}") from error
