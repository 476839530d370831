"""The library of TensorRT: importing it, its log, and all that differs between its versions 10 and 11."""

from __future__ import annotations

import collections
import importlib.metadata
import logging
import threading
from typing import Any

from hoirt.errors import BackendError, OutOfMemory

VERSIONS = (10, 11)  # the major versions whose names and rules this code was checked against
PACKAGES = ("tensorrt", "tensorrt_cu13", "tensorrt_cu12")
_log = logging.getLogger("hoirt.tensorrt")


def installed_version() -> str:
    """The version of the installed package, without importing it. Raises BackendError."""
    for package in PACKAGES:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return str(Library.load().module.__version__)  # a build of one's own, without metadata


class Library:
    """The imported module and the one logger that everything made with it shares.

    module: `tensorrt`. major: 10 or 11.
    """

    _one: Library | None = None
    _lock = threading.Lock()

    def __init__(self, module: Any) -> None:
        """Raises BackendError for a version that is not known here."""
        self.module = module
        self.version: str = module.__version__
        self.major = int(self.version.partition(".")[0])
        if self.major not in VERSIONS:
            known = " and ".join(map(str, VERSIONS))
            raise BackendError(f"backend tensorrt: version {self.version} is not known; {known} are")
        self.messages: collections.deque[str] = collections.deque(maxlen=8)  # the last errors
        self.logger = _make_logger(module, self.messages)

    @classmethod
    def load(cls) -> Library:
        """Imports TensorRT once. Raises BackendError with the loader's reason."""
        with cls._lock:
            if cls._one is None:
                try:
                    import tensorrt
                except (ImportError, OSError) as error:  # no package, or no libnvinfer beside it
                    raise BackendError(
                        f"backend tensorrt: {error}; pip install 'hoirt[tensorrt]' brings it"
                    ) from error
                cls._one = cls(tensorrt)
            return cls._one

    def network(self, builder: Any) -> Any:
        """An empty, strongly typed network. From 11 on all are, and the flag is deprecated."""
        flags = 0
        if self.major == 10:
            flags = 1 << int(self.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        return builder.create_network(flags)

    def release_refit(self, refitter: Any) -> None:
        """Gives back what a refit kept for the next one, where the version can."""
        if self.major >= 11:
            refitter.release_refit_resources()

    def failure(self, what: str) -> BackendError | OutOfMemory:
        """The error for a call that gave nothing, with what the library logged about it."""
        said = "; ".join(self.messages) or "it logged no reason"
        self.messages.clear()
        text = f"backend tensorrt {self.version}: {what}: {said}"
        if any(word in said.lower() for word in ("out of memory", "outofmemory", "could not be allocated")):
            return OutOfMemory(text)
        return BackendError(text)

    def made(self, value: Any, what: str) -> Any:
        """`value`, unless it is None or False, which is how the library says that it failed."""
        if value is None or value is False:
            raise self.failure(f"{what} failed")
        return value


def _make_logger(module: Any, messages: collections.deque[str]) -> Any:
    """Errors are kept for the exception that follows; the rest goes to Python's logging."""
    severity = module.ILogger.Severity
    levels = {
        severity.INTERNAL_ERROR: logging.ERROR,
        severity.ERROR: logging.ERROR,
        severity.WARNING: logging.WARNING,
        severity.INFO: logging.DEBUG,
        severity.VERBOSE: logging.NOTSET,
    }

    class Logger(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:  # called from the library's own threads
            level = levels.get(severity, logging.NOTSET)
            if level == logging.NOTSET:
                return
            if level == logging.ERROR:
                messages.append(msg)
            else:
                _log.log(level, "%s", msg)

    return Logger()
