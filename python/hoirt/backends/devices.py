"""Devices on which tensors live and the denoise loop runs: each is opened once per process, at first use."""

import importlib.util
import threading
from typing import TYPE_CHECKING

from hoirt.errors import BackendError

if TYPE_CHECKING:
    from hoirt._core import Device

NOT_BUILT = "hoirt was built without its CUDA extension; a build from source where nvcc is found has it"

_opened: dict[str, "Device"] = {}
_lock = threading.Lock()


def library() -> str:
    """The path of the shared object that holds the CUDA devices; `BackendError` says why there is none."""
    spec = importlib.util.find_spec("hoirt._core_cuda")  # finds the module without running it
    if spec is None or not spec.origin:
        raise BackendError(NOT_BUILT)
    return spec.origin


def full_name(device: str) -> str:
    """The name with its index: "cuda" is the first of them."""
    return "cuda:0" if device == "cuda" else device


def open_device(name: str) -> "Device":
    """The device "cpu", "cuda" (the first one) or "cuda:N". Thread-safe.

    Raises:
        InputError: there is no device of that kind.
        BackendError: it cannot be opened; the message has the loader's or the driver's words.
    """
    from hoirt import _core

    name = full_name(name)
    with _lock:  # a failure is not kept: the driver may have been installed since
        if name not in _opened:
            _opened[name] = _core.open_device(name)
        return _opened[name]
