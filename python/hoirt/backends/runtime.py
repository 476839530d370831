"""Finding one backend: a shared object and the runtime library that it needs, or a module and its package."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hoirt.backends.native import NativeBackend
from hoirt.errors import BackendError

if TYPE_CHECKING:
    from hoirt import _core
    from hoirt.backends.interface import Backend


@dataclass(frozen=True)
class Runtime:
    """A backend's shared object, and the Python package whose wheel carries its runtime.

    Attributes:
        library: the backend's shared object.
        package: the package that holds the runtime's libraries.
        libraries: pattern, inside the package's folder, of the library that the backend links to.
        automatic: kinds of device on which "auto" tries this backend.
    """

    library: Path
    package: str
    libraries: str
    automatic: tuple[str, ...] = ("cpu",)

    def load(self, name: str) -> Backend:
        """Opens the backend; `BackendError` lists every attempt."""
        if not self.library.is_file():
            raise BackendError(f"backend {name}: not built into this installation, no file {self.library}")
        try:
            return NativeBackend(self._open())
        except BackendError as error:
            attempts = [str(error)]
        # The runtime is normally beside hoirt in site-packages. In another folder of sys.path (layered
        # environments, user installs) it is found here; once in memory, the loader takes it by its name.
        try:
            self._preload()
            return NativeBackend(self._open())
        except (BackendError, OSError) as error:
            attempts.append(str(error))
        tried = "; then ".join(attempts)
        raise BackendError(f"backend {name}: {tried}. Reinstalling hoirt brings the matching runtime")

    def _open(self) -> _core.Backend:
        from hoirt._core import open_backend

        return open_backend(str(self.library))

    def _preload(self) -> None:
        spec = importlib.util.find_spec(self.package)  # finds the package without running it
        if spec is None or not spec.submodule_search_locations:
            raise BackendError(f"the Python package {self.package} is not installed")
        folder = Path(next(iter(spec.submodule_search_locations)))
        found = sorted(folder.glob(self.libraries))
        if not found:
            raise BackendError(f"{folder} has no {self.libraries}")
        for path in found:
            ctypes.CDLL(str(path))


@dataclass(frozen=True)
class PythonRuntime:
    """A backend that is a Python module over an optional package.

    Attributes:
        module: a module of hoirt. package: what it imports when it is used. extra: of hoirt, which brings the
            package. automatic: as in Runtime. factory: what in the module makes the backend.
    """

    module: str
    package: str
    extra: str
    automatic: tuple[str, ...]
    factory: str = "Backend"

    def load(self, name: str) -> Backend:
        """Makes the backend without importing its package; BackendError names the extra if it is missing."""
        if importlib.util.find_spec(self.package) is None:
            raise BackendError(
                f"backend {name}: the Python package {self.package} is not installed; "
                f"pip install 'hoirt[{self.extra}]'"
            )
        backend: Backend = getattr(importlib.import_module(self.module), self.factory)()
        return backend
