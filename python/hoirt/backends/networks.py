"""open_network(): a network of a pack on the backend that was chosen, with its place in the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hoirt.backends.choice import Choice, arithmetic_of
from hoirt.backends.devices import open_device
from hoirt.backends.interface import Backend, kind_of

if TYPE_CHECKING:
    from hoirt._core import Network
    from hoirt.packs import Pack

# In bfloat16 a time of 500 has three digits, and its sines are noise. Run once a picture, exactness is free.
EXACT = ("time",)
# On a GPU all of a graph becomes narrow, positions in metres too, and these two take no time there.
EXACT_CUDA = ("time", "detector", "mesh")
AUTOENCODER = ("vae_encoder", "vae_decoder")


def precision_for(pack: Pack, role: str, precision: str, device: str) -> str:
    """The arithmetic of one network where that of the pack is `precision`."""
    if role in (EXACT_CUDA if kind_of(device) == "cuda" else EXACT):
        return "fp32"
    if role in AUTOENCODER and precision == "fp16" and pack.settings.vae.upcast:
        return "fp32"
    return "bf16" if precision == "fp8" and not role.startswith("step") else precision


def cache_path(
    pack: Pack, role: str, backend: Backend, *, device: str, precision: str, threads: int = 0
) -> str:
    """Where the compiled form of a network is kept, or "" if there is no cache."""
    from hoirt.backends.cache import path_for

    return path_for(
        pack.network_hash(role),
        backend=backend.name,
        version=backend.version,
        precision=precision,
        threads=threads if backend.keyed_by_threads else 0,
        device=backend.model(device),
    )


def open_network(pack: Pack, role: str, choice: Choice, *, threads: int = 0, cache: bool = True) -> Network:
    """The network of a role, as `choice` says. Raises BackendError."""
    backend, device = choice.backend, choice.device
    arithmetic = arithmetic_of(choice.precision, backend.precisions(device))
    precision = precision_for(pack, role, arithmetic, device)
    kept = ""
    if cache:
        kept = cache_path(pack, role, backend, device=device, precision=precision, threads=threads)
    path = str(pack.network_file(role))

    def open_it() -> Network:
        return backend.open(path, device=device, cache_path=kept, precision=precision, threads=threads)

    return open_device(device).call(open_it) if kind_of(device) == "cuda" else open_it()
