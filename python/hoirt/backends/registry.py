"""The backends by name, each loaded when it is first asked for."""

import threading
from pathlib import Path

from hoirt.backends.interface import Backend
from hoirt.backends.runtime import PythonRuntime, Runtime
from hoirt.errors import BackendError, HoirtError, InputError

_FOLDER = Path(__file__).resolve().parent.parent

# In the order in which "auto" tries them on a kind of device.
_RUNTIMES: dict[str, Runtime | PythonRuntime] = {
    "openvino": Runtime(
        library=_FOLDER / "_backend_openvino.so", package="openvino", libraries="libs/libopenvino.so.*"
    ),
    "tensorrt": PythonRuntime("hoirt.backends.tensorrt", "tensorrt", "tensorrt", ("cuda",)),
    "aoti": PythonRuntime("hoirt.backends.aoti", "torch", "aoti", ("cuda",)),
    "onnxruntime": PythonRuntime("hoirt.backends.onnxruntime", "onnxruntime", "onnxruntime", ("cpu", "cuda")),
    "onnxruntime-tensorrt": PythonRuntime(
        "hoirt.backends.onnxruntime", "onnxruntime", "onnxruntime-gpu", (), "TensorrtProvider"
    ),
}
_loaded: dict[str, Backend] = {}
_lock = threading.Lock()


def names() -> tuple[str, ...]:
    """Of all backends, whether they work here or not."""
    return tuple(_RUNTIMES)


def automatic(kind: str) -> tuple[str, ...]:
    """The backends that "auto" tries on a "cpu" or "cuda" device, in this order."""
    return tuple(name for name, runtime in _RUNTIMES.items() if kind in runtime.automatic)


def load(name: str = "auto") -> Backend:
    """The backend of that name, or the first one that works on the CPU; loaded once per process. Thread-safe.

    Args:
        name: "auto", or one of the names that `available()` lists.

    Raises:
        InputError: there is no backend of that name.
        BackendError: it cannot be loaded; the message lists every attempt.
    """
    if name != "auto" and name not in _RUNTIMES:
        raise InputError(f"there is no backend {name!r}; choose 'auto' or one of {', '.join(_RUNTIMES)}")
    attempts = []
    for candidate in automatic("cpu") if name == "auto" else (name,):
        try:
            return _load_one(candidate)
        except HoirtError as error:
            attempts.append(str(error))
    raise BackendError("\n".join(attempts))


def available() -> dict[str, str]:
    """For each backend its version, or "unavailable: " and the reason."""
    report = {}
    for name in _RUNTIMES:
        try:
            report[name] = _load_one(name).version
        except HoirtError as error:
            report[name] = f"unavailable: {error}"
    return report


def _load_one(name: str) -> Backend:
    with _lock:  # a failure is not kept: the runtime may have been installed since
        if name not in _loaded:
            _loaded[name] = _RUNTIMES[name].load(name)
        return _loaded[name]
