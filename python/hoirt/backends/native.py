"""NativeBackend: a shared object behind the interface of all backends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hoirt.backends.interface import kind_of
from hoirt.errors import BackendError

if TYPE_CHECKING:
    from hoirt import _core
    from hoirt.packs import Pack


class NativeBackend:
    """A backend in C++ for the CPU; see `hoirt.backends.interface.Backend`."""

    devices: tuple[str, ...] = ("cpu",)
    keyed_by_threads = True

    def __init__(self, backend: _core.Backend) -> None:
        self._backend = backend

    @property
    def name(self) -> str:
        return self._backend.name

    @property
    def version(self) -> str:
        return self._backend.version

    def precisions(self, device: str = "cpu") -> list[str]:
        """Those that this processor can run, such as "bf16", the fastest first; always with "fp32"."""
        self._check(device)
        return self._backend.precisions

    def model(self, device: str) -> str | None:
        """None: this machine's processor."""
        return None

    def obstacle(self, pack: Pack, *, device: str, precision: str) -> str:
        """ "" on the CPU: these backends compile whatever a pack holds."""
        return "" if kind_of(device) in self.devices else f"{self.name} runs on the CPU only"

    def open(
        self,
        path: str,
        *,
        device: str = "cpu",
        cache_path: str = "",
        shapes: Mapping[str, Sequence[int]] | None = None,
        precision: str = "fp32",
        threads: int = 0,
    ) -> _core.Network:
        """As in the interface."""
        self._check(device)
        return self._backend.open(
            path, cache_path=cache_path, shapes=shapes or {}, precision=precision, threads=threads
        )

    def _check(self, device: str) -> None:
        if kind_of(device) not in self.devices:
            raise BackendError(f"backend {self.name} runs on the CPU only, not on {device}")
