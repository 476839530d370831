"""Backends, which run networks: each is a shared object of its own, loaded when it is first asked for.

`load()` gives a backend; `available()` says which ones this machine can run, and why not the others. Neither
imports the Python package of a runtime.
"""

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from hoirt.backends.runtime import Runtime
from hoirt.errors import BackendError, HoirtError, InputError

if TYPE_CHECKING:
    from hoirt._core import Backend

__all__ = ["available", "load"]

_FOLDER = Path(__file__).resolve().parent.parent

# In the order in which "auto" tries them.
_RUNTIMES = {
    "openvino": Runtime(
        library=_FOLDER / "_backend_openvino.so", package="openvino", libraries="libs/libopenvino.so.*"
    ),
}
_loaded: dict[str, "Backend"] = {}
_lock = threading.Lock()


def load(name: str = "auto") -> "Backend":
    """The backend of that name, or the first one that works; loaded once per process. Thread-safe.

    Args:
        name: "auto", or one of the names that `available()` lists.

    Raises:
        InputError: there is no backend of that name.
        BackendError: it cannot be loaded; the message lists every attempt.
    """
    if name != "auto" and name not in _RUNTIMES:
        raise InputError(f"there is no backend {name!r}; choose 'auto' or one of {', '.join(_RUNTIMES)}")
    attempts = []
    for candidate in _RUNTIMES if name == "auto" else (name,):
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


def _load_one(name: str) -> "Backend":
    with _lock:  # a failure is not kept: the runtime may have been installed since
        if name not in _loaded:
            _loaded[name] = _RUNTIMES[name].load(name)
        return _loaded[name]
