"""Backend: opens ONNX files as ONNX Runtime sessions."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from hoirt.backends.interface import kind_of
from hoirt.errors import BackendError

if TYPE_CHECKING:
    from hoirt._core import Network
    from hoirt.packs import Pack

DISTRIBUTIONS = ("onnxruntime-gpu", "onnxruntime")
# What the CUDA kernels of ONNX Runtime 1.31 have: none for InstanceNormalization, Resize and Pad in bfloat16.
PRECISIONS = {
    ("onnxruntime", "cpu"): ["fp32"],
    ("onnxruntime", "cuda"): ["fp16", "fp32"],
    ("onnxruntime-tensorrt", "cuda"): ["fp16", "bf16", "fp32"],
}
LIBRARIES = {
    "onnxruntime": "libonnxruntime_providers_cuda.so",
    "onnxruntime-tensorrt": "libonnxruntime_providers_tensorrt.so",
}


class Backend:
    """With the CPU or the CUDA provider; see `hoirt.backends.interface.Backend`.

    onnxruntime is imported when a network is opened.
    """

    name = "onnxruntime"
    keyed_by_threads = False

    @property
    def version(self) -> str:
        """Of the installed wheel, onnxruntime-gpu or onnxruntime."""
        for distribution in DISTRIBUTIONS:
            try:
                return metadata.version(distribution)
            except metadata.PackageNotFoundError:
                continue
        return "unknown"

    @property
    def devices(self) -> tuple[str, ...]:
        """Of those that the installed wheel has a provider for."""
        kinds = [kind for name, kind in PRECISIONS if name == self.name]
        return tuple(kind for kind in kinds if kind == "cpu" or self._has_provider())

    def precisions(self, device: str = "cpu") -> list[str]:
        """Of the provider, the fastest first."""
        self._check_device(device)
        return list(PRECISIONS[self.name, kind_of(device)])

    def model(self, device: str) -> str | None:
        """None on the CPU. TensorRT's provider writes the GPU's model into the names of its engines."""
        return None if kind_of(device) == "cpu" else "cuda"

    def obstacle(self, pack: Pack, *, device: str, precision: str) -> str:
        """ "" where there is a provider for the device: it runs whatever a pack holds."""
        try:
            self._check_device(device)
        except BackendError as error:
            return str(error)
        return ""

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
        """As in the interface. `cache_path`: a folder for TensorRT's engines; others keep nothing."""
        possible = self.precisions(device)
        if precision not in possible:
            raise BackendError(
                f"backend {self.name} cannot run {precision} on {device}; it can run {', '.join(possible)}"
            )
        if not Path(path).is_file():
            raise BackendError(f"backend {self.name}: there is no file {path}")
        from hoirt.backends.onnxruntime.session import open_session

        return open_session(
            Path(path),
            provider="tensorrt" if self.name == "onnxruntime-tensorrt" else kind_of(device),
            device=device,
            engines=Path(cache_path) if cache_path else None,
            shapes=shapes or {},
            precision=precision,
            threads=threads,
        )

    def _has_provider(self) -> bool:
        spec = importlib.util.find_spec("onnxruntime")
        if spec is None or spec.origin is None:
            return False
        return (Path(spec.origin).parent / "capi" / LIBRARIES[self.name]).is_file()

    def _check_device(self, device: str) -> None:
        if kind_of(device) not in self.devices:
            wanted = "" if kind_of(device) == "cpu" else "; pip install 'hoirt[onnxruntime-gpu]' brings it"
            raise BackendError(
                f"backend {self.name}: the installed onnxruntime has no provider for {device}{wanted}"
            )


class TensorrtProvider(Backend):
    """With the TensorRT provider, which is taken by its name only."""

    name = "onnxruntime-tensorrt"

    def __init__(self) -> None:
        """Raises BackendError if the installed wheel has no such provider."""
        if not self.devices:
            raise BackendError(
                f"backend {self.name}: the installed onnxruntime has no such provider; "
                "pip install 'hoirt[onnxruntime-gpu]' brings it"
            )
