"""Backend: opens the packages of a network. torch is imported then, or to ask a GPU what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from hoirt.backends import cache
from hoirt.backends.aoti import store
from hoirt.backends.interface import kind_of
from hoirt.errors import BackendError

if TYPE_CHECKING:
    from hoirt._core import Network
    from hoirt.packs import Pack

FP8 = (8, 9)  # the compute capability from which tensor cores multiply float8


class Backend:
    """See `hoirt.backends.interface.Backend`."""

    devices: tuple[str, ...] = ("cpu", "cuda")
    name = "aoti"
    keyed_by_threads = False

    @property
    def version(self) -> str:
        """Of torch, whose packages run with exactly the version that made them."""
        return metadata.version("torch")

    def precisions(self, device: str = "cpu") -> list[str]:
        """Those that packages can be compiled for; the fastest that need no calibration first."""
        if kind_of(device) == "cpu":
            return ["fp32", "bf16", "fp16", "fp8"]
        return ["fp16", "bf16", "fp32", *(["fp8"] if self._capability(device) >= FP8 else [])]

    def model(self, device: str) -> str | None:
        """A package for CUDA is tied to the compute capability."""
        if kind_of(device) == "cpu":
            return None
        major, minor = self._capability(device)
        return f"sm_{major}{minor}"

    def obstacle(self, pack: Pack, *, device: str, precision: str) -> str:
        """Which networks of the pack have no package for this device and precision."""
        from hoirt.backends.choice import arithmetic_of
        from hoirt.backends.networks import cache_path, precision_for
        from hoirt.packs.tasks import STEP_VARIANTS

        folder = cache.folder()
        if folder is None or not any(folder.glob(f"{cache.PACKAGES}*")):
            return f"aoti: nothing is compiled; {command(pack.name, device, precision)} does it"
        arithmetic = arithmetic_of(precision, self.precisions(device))
        missing = []
        for role in pack.manifest.networks:
            if role not in STEP_VARIANTS:
                narrow = precision_for(pack, role, arithmetic, device)
                path = cache_path(pack, role, self, device=device, precision=narrow)
                if not store.read_all(Path(path)):
                    missing.append(role)
        if not missing:
            return ""
        names = ", ".join(missing)
        return (
            f"aoti: no package for {names} of {pack.name}; {command(pack.name, device, precision)} makes them"
        )

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
        """As in the interface. `cache_path` is the folder of the packages, which must lie in hoirt's cache.

        `precision` and `threads` were fixed when they were compiled.
        """
        possible = self.precisions(device)
        if precision not in possible:
            raise BackendError(f"aoti cannot run {precision} on {device}; it can run {', '.join(possible)}")
        folder = cache.folder()
        if not cache_path or folder is None:
            raise BackendError("aoti runs packages of hoirt's cache, which is turned off")
        if Path(cache_path).absolute().parent != folder.absolute():
            raise BackendError(
                f"{cache_path} is not in hoirt's cache {folder}, and other packages are not run"
            )
        store.check_private(folder)
        packages = store.read_all(Path(cache_path))
        if shapes:
            packages = [package for package in packages if package.fits({**_any(package), **shapes})]
        if not packages:
            raise BackendError(
                f"no package for {Path(path).name} on {device} with {precision}: compile the pack with "
                f"{command('PACK', device, precision)}"
            )
        from hoirt.backends.aoti.runtime import open_packages

        return open_packages(Path(cache_path), packages, device, name=Path(path).name)

    def _capability(self, device: str) -> tuple[int, int]:
        import torch

        try:
            major, minor = torch.cuda.get_device_capability(device)
        except (RuntimeError, AssertionError) as error:
            raise BackendError(f"aoti: torch {torch.__version__} cannot use {device}: {error}") from error
        return int(major), int(minor)


def command(pack: str, device: str, precision: str) -> str:
    """What a user types to compile a pack."""
    return f"hoirt pack compile {pack} --device {device} --precision {precision}"


def _any(package: store.Package) -> dict[str, Sequence[int]]:
    """Shapes that fit, of inputs whose shapes are not given."""
    return {value.name: value.shape for value in package.inputs}
