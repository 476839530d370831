"""The backend as hoirt sees it: an engine from the cache or built anew, and a network on it."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hoirt import _core
from hoirt.backends import devices, idle
from hoirt.backends.tensorrt import plan_file
from hoirt.backends.tensorrt.build import MAX_LEVEL, MIN_LEVEL, Build, Built, Options, with_converted
from hoirt.backends.tensorrt.engine import Engine
from hoirt.backends.tensorrt.library import Library, installed_version
from hoirt.backends.tensorrt.precision import Precision
from hoirt.backends.tensorrt.profiles import Shapes, default_profiles, open_shapes
from hoirt.backends.tensorrt.progress import Console, Report, Token, Watch, cancellable
from hoirt.backends.tensorrt.scratch import Device, Scratch
from hoirt.errors import BackendError, HoirtError, InputError

if TYPE_CHECKING:
    from hoirt.packs import Pack

PRECISIONS: tuple[Precision, ...] = ("bf16", "fp16", "fp32")


class Backend:
    """See hoirt.backends.interface.Backend. Thread-safe; engines are built one at a time."""

    name = "tensorrt"
    devices: tuple[str, ...] = ("cuda",)
    keyed_by_threads = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._building = threading.Lock()
        self._scratches: dict[str, tuple[Device, Scratch]] = {}

    @property
    def version(self) -> str:
        return installed_version()

    def precisions(self, device: str = "cuda:0") -> list[str]:
        """Those of every GPU that these versions run on, the fastest first. Raises BackendError for a CPU."""
        _check_device(device)
        return list(PRECISIONS)

    def model(self, device: str) -> str | None:
        """The GPU's name: an engine runs on the model that it was built on."""
        return self._on(device)[0].name

    def obstacle(self, pack: Pack, *, device: str, precision: str) -> str:
        """Why no engine can be built here, or ""."""
        try:
            _check_device(device)
            Library.load()
            self._on(device)
        except HoirtError as error:
            return str(error)
        return ""

    def open(
        self,
        path: str,
        *,
        device: str = "cuda:0",
        cache_path: str = "",
        shapes: Mapping[str, Sequence[int]] | None = None,
        precision: str = "fp32",
        threads: int = 0,
    ) -> _core.Network:
        """The network of an ONNX file: `open_engine` with default options. `threads` means nothing here."""
        engine = self.open_engine(
            path, device=device, cache_path=cache_path, shapes=shapes, precision=precision
        )
        return network_of(engine, device)

    def open_engine(
        self,
        path: str,
        *,
        device: str = "cuda:0",
        cache_path: str = "",
        shapes: Mapping[str, Sequence[int]] | None = None,
        precision: str = "fp32",
        options: Options | None = None,
        report: Report | None = None,
        cancel: Token | None = None,
    ) -> Engine:
        """The engine of an ONNX file. The first time it is built, which takes minutes.

        Args:
            device, cache_path, shapes, precision: as in the interface.
            options: how to build. Its precision is `precision`; without profiles it gets those of the pack.
            report: called with (phase, share done); False stops the build. By default a terminal shows it.
            cancel: a token that stops the build.

        Raises:
            BackendError, OutOfMemory, Cancelled, KeyboardInterrupt; InputError for wrong options or shapes.
        """
        _check_device(device)
        if precision not in PRECISIONS:
            raise BackendError(
                f"backend tensorrt has the precisions {', '.join(PRECISIONS)}, not {precision!r}"
            )
        library = Library.load()
        source = Path(path)
        inputs = open_shapes(source, shapes)
        options = _complete(options or Options(), precision, source)
        on, scratch = self._on(device)
        cache = _Cache(library, on.name, cache_path, {**options.key(), "inputs": inputs})
        engine = self._load(library, cache.plan(), on, scratch, options.precision)
        if engine is None:
            console = Console(source.stem)
            watch = Watch(report or console, cancel)
            try:
                with self._building:
                    built = _build(library, source, inputs, options, cache.timings(), watch)
            finally:
                console.close()
            cache.keep(built)
            engine = Engine(library, built.plan, on, scratch, options.precision)
        if options.strip:
            engine.refit_from(source)
        return engine

    def _load(
        self, library: Library, plan: bytes | None, device: Device, scratch: Scratch, precision: Precision
    ) -> Engine | None:
        """The cached engine; None where there is none, or one that TensorRT does not take any more."""
        try:
            return None if plan is None else Engine(library, plan, device, scratch, precision)
        except BackendError:  # not OutOfMemory: building it again would not help
            return None

    def _on(self, device: str) -> tuple[Device, Scratch]:
        _check_device(device)
        with self._lock:
            if device not in self._scratches:
                opened = cast(Device, devices.open_device(device))
                self._scratches[device] = opened, Scratch(opened)
            return self._scratches[device]


def network_of(engine: Engine, device: str) -> _core.Network:
    """The engine as a network for a denoise loop on `device`."""
    inputs = [_core.Port(port.name, list(port.shape), port.dtype) for port in engine.inputs]
    outputs = [_core.Port(port.name, list(port.shape), port.dtype) for port in engine.outputs]
    idle.keeps_runner(device, engine)
    made: _core.Network = _core.DeviceNetwork(inputs, outputs, engine, device=device, capturable=True)
    return made


class _Cache:
    """The files of one network: its plan, and the timings of all networks on this GPU and version."""

    def __init__(self, library: Library, gpu: str, path: str, key: Mapping[str, Any]) -> None:
        self.key = {"gpu": gpu, "tensorrt": library.version, **key}
        self.timing_key = {"gpu": gpu, "tensorrt": library.version}
        self.file = Path(f"{path}-{plan_file.digest(self.key)}") if path else None
        self.timing_file = (
            Path(path).with_name(f"tensorrt-timings-{plan_file.digest(self.timing_key)}") if path else None
        )

    def plan(self) -> bytes | None:
        return plan_file.read(self.file, self.key) if self.file else None

    def timings(self) -> bytes:
        found = plan_file.read(self.timing_file, self.timing_key) if self.timing_file else None
        return found or b""

    def keep(self, built: Built) -> None:
        """Writes both; a cache that cannot be written is warned about."""
        if self.file is None or self.timing_file is None:
            return
        try:
            plan_file.write(self.file, self.key, built.plan)
            plan_file.write(self.timing_file, self.timing_key, built.timings)
        except OSError as error:
            warnings.warn(f"the engine is not cached, it will be built again: {error}", stacklevel=4)


def _build(
    library: Library, source: Path, inputs: Shapes, options: Options, timings: bytes, watch: Watch
) -> Built:
    def build(path: Path) -> Built:
        return Build(library, options, watch).run(path, inputs, timings)

    built: Built = cancellable(lambda: with_converted(source, options.precision, build), watch)
    return built


def _complete(options: Options, precision: Precision, source: Path) -> Options:
    if not MIN_LEVEL <= options.level <= MAX_LEVEL:
        raise InputError(f"options.level must be {MIN_LEVEL} to {MAX_LEVEL}, not {options.level}")
    if options.aux_streams is not None and options.aux_streams < 0:
        raise InputError(f"options.aux_streams must not be negative, it is {options.aux_streams}")
    profiles = options.profiles or default_profiles(source)
    return replace(options, precision=precision, profiles=profiles)


def _check_device(device: str) -> None:
    if device.partition(":")[0] != "cuda":
        raise BackendError(f"backend tensorrt runs on NVIDIA GPUs only, not on {device}")
