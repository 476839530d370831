"""Backend: what native and Python backends have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from hoirt._core import Network
    from hoirt.packs import Pack


class Backend(Protocol):
    """Opens networks on one runtime. Cheap to make: what is slow to import waits until it is used."""

    @property
    def name(self) -> str:
        """As in `hoirt.backends.load(name)`."""

    @property
    def version(self) -> str:
        """Of the runtime; a part of the keys of the cache."""

    @property
    def devices(self) -> tuple[str, ...]:
        """The kinds of device that this installation of the runtime can use: of "cpu" and "cuda"."""

    @property
    def keyed_by_threads(self) -> bool:
        """Whether what is compiled depends on the number of threads."""

    def precisions(self, device: str = "cpu") -> list[str]:
        """Those that `device` ("cpu", "cuda:0") can run, the fastest first; always with "fp32".

        Raises BackendError if the device cannot be used.
        """

    def model(self, device: str) -> str | None:
        """What compiled networks are tied to, for the keys of the cache; None is this machine's processor."""

    def obstacle(self, pack: Pack, *, device: str, precision: str) -> str:
        """Why the networks of `pack` cannot be opened on `device`, or "" if nothing is in the way."""

    def open(
        self,
        path: str,
        *,
        device: str = "cpu",
        cache_path: str = "",
        shapes: Mapping[str, Sequence[int]] | None = None,
        precision: str = "fp32",
        threads: int = 0,
    ) -> Network:
        """The network of an ONNX file, compiled for `device`.

        Args:
            path: the ONNX file; its weights lie beside it.
            device: "cpu", or "cuda:" and an index.
            cache_path: where the compiled network is read from and written to: a name inside of hoirt's
                cache that stands for content, backend, version, device and precision; "" keeps nothing.
            shapes: fixes the shapes of inputs.
            precision: one of `precisions(device)`; ports stay as they are.
            threads: CPU threads; 0 means all cores.

        Raises:
            BackendError: the network cannot be opened with these options; the message says why.
        """


def kind_of(device: str) -> str:
    """ "cuda" of "cuda:0"."""
    return device.partition(":")[0]
