"""Arrays of any library: which one they are of, and the few operations a scene needs, on their device."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from hoirt.errors import InputError
from hoirt.imaging.arrays import as_numpy

CPU_DEVICES = (1, 3)  # DLPack's kDLCPU and kDLCUDAHost
CUDA_DEVICES = (2, 13)  # kDLCUDA and kDLCUDAManaged


def axis_arrays(source: Any, what: str) -> Any:
    """`source` with shape, dtype and indexing: CPU arrays as NumPy views, others as they are. InputError."""
    if device_of(source) in CUDA_DEVICES:
        return source
    array = as_numpy(source, what)
    if array.dtype == object:
        raise InputError(f"{what} must be an array of numbers; its rows differ in length or type")
    return array


def device_of(source: Any) -> int:
    """DLPack's device type of an array; CPU for what does not say."""
    if isinstance(source, np.ndarray) or not hasattr(source, "__dlpack_device__"):
        return CPU_DEVICES[0]
    return int(source.__dlpack_device__()[0])


def library_of(source: Any) -> str:
    """The name of the library of an array: "numpy", "torch", "cupy", "jax", "hoirt", ..."""
    if isinstance(source, np.ndarray) or not hasattr(source, "__dlpack__"):
        return "numpy"
    root = type(source).__module__.partition(".")[0]
    return "jax" if root == "jaxlib" else root


def common_library(arrays: list[Any]) -> str:
    """The one library, besides NumPy, that `arrays` are of; "numpy" if none. InputError if there are two."""
    found = sorted({library_of(array) for array in arrays} - {"numpy"})
    if len(found) > 1:
        raise InputError(f"the arrays are of {' and '.join(found)}; use one library for all of a scene")
    return found[0] if found else "numpy"


def into_library(array: Any, library: str) -> Any:
    """`array` as an array of `library` over the same memory; of one that is unknown: a hoirt Tensor."""
    if library == "numpy" or library_of(array) == library:
        return array
    module = import_module("jax.dlpack" if library == "jax" else library)
    if hasattr(module, "from_dlpack"):
        return module.from_dlpack(array)
    from hoirt import _core

    return _core.Tensor(array)


def namespace(array: Any) -> Any:
    """The module with the functions for `array`: numpy, torch, cupy, jax.numpy."""
    library = library_of(array)
    return import_module({"jax": "jax.numpy"}.get(library, library))


def is_floating(array: Any) -> bool:
    """Whether the dtype is float32 or float64."""
    return _dtype(array) in ("float32", "float64")


def is_integral(array: Any) -> bool:
    """Whether the dtype is an integer."""
    return _dtype(array).startswith(("int", "uint"))


def is_finite(array: Any) -> bool:
    """Whether no element is NaN or infinite."""
    return bool(namespace(array).isfinite(array).all())


def to_int32(array: Any) -> Any:
    """An int32 copy, or the array itself if it is that already; the values must fit."""
    xp = namespace(array)
    return array.to(xp.int32) if library_of(array) == "torch" else array.astype(xp.int32, copy=False)


def to_float64(array: Any) -> Any:
    """A float64 copy, or the array itself if it is that already."""
    xp = namespace(array)
    return array.to(xp.float64) if library_of(array) == "torch" else array.astype(xp.float64, copy=False)


def joined(arrays: list[Any], axis: int) -> Any:
    """Arrays one after the other along `axis`; the other extents must agree."""
    if len(arrays) == 1:
        return arrays[0]
    xp = namespace(arrays[0])
    return (getattr(xp, "concat", None) or xp.concatenate)(arrays, axis)


def stretched(array: Any, frames: int) -> Any:
    """`array` (1, ...) repeated over `frames` as a view; one of more frames as it is."""
    if array.shape[0] == frames:
        return array
    return namespace(array).broadcast_to(array, (frames, *array.shape[1:]))


def beside(array: Any, other: Any) -> Any:
    """A CPU array on the device and in the library of `other`; one that is there already as it is."""
    if not isinstance(array, np.ndarray) or isinstance(other, np.ndarray):
        return array
    where = {"device": other.device} if library_of(other) == "torch" else {}
    return namespace(other).asarray(array, **where)


def contiguous(array: Any) -> Any:
    """A row-major copy, or the array itself if it is that already."""
    library = library_of(array)
    if library == "torch":
        return array.contiguous()
    return array if library == "jax" else namespace(array).ascontiguousarray(array)


def stream_of(array: Any) -> int:
    """The CUDA stream that the array's library works on now, as an integer; 0: the default stream."""
    library = library_of(array)
    if library == "torch":
        return int(namespace(array).cuda.current_stream(array.device).cuda_stream)
    return int(namespace(array).cuda.get_current_stream().ptr) if library == "cupy" else 0


def on_cpu(array: Any) -> Any:
    """A small array as NumPy, copied from its device if need be."""
    library = library_of(array)
    if library == "torch":
        return array.cpu().numpy()
    return array.get() if library == "cupy" else as_numpy(array, "the array")


def _dtype(array: Any) -> str:
    return str(array.dtype).removeprefix("torch.")
