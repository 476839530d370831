"""Builds an engine of a pack's network: ONNX in the wanted precision, profiles, timing cache, progress."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hoirt.backends.tensorrt.library import Library
from hoirt.backends.tensorrt.precision import Precision, convert
from hoirt.backends.tensorrt.profiles import Profile, Shapes
from hoirt.backends.tensorrt.progress import Watch, make_monitor

MIN_LEVEL, MAX_LEVEL = 0, 5


@dataclass(frozen=True)
class Options:
    """How an engine is built.

    refit: its weights can be replaced later (LoRA); costs some fusions.
    strip: the plan holds no weights, they come from the pack each time it is loaded.
    level: 0 to 5, how long the builder searches.
    aux_streams: how many streams it may use besides the caller's; None leaves it to TensorRT.
    """

    precision: Precision = "fp32"
    profiles: tuple[Profile, ...] = ()
    refit: bool = False
    strip: bool = False
    level: int = 3
    aux_streams: int | None = None

    def key(self) -> dict[str, Any]:
        """For the key of the cache."""
        return {
            "precision": self.precision,
            "profiles": [profile.key() for profile in self.profiles],
            "refit": self.refit,
            "strip": self.strip,
            "level": self.level,
            "aux_streams": self.aux_streams,
        }


@dataclass(frozen=True)
class Built:
    """plan: the serialised engine. timings: the timing cache with what this build measured."""

    plan: bytes
    timings: bytes


class Build:
    """One build. Its parts live until it ends, since the network refers to the parser's weights."""

    def __init__(self, library: Library, options: Options, watch: Watch) -> None:
        self.library, self.options = library, options
        module = library.module
        library.messages.clear()
        self.builder = library.made(module.Builder(library.logger), "making a builder")
        self.network = library.made(library.network(self.builder), "making a network")
        self.config = library.made(self.builder.create_builder_config(), "making a builder configuration")
        self.monitor = make_monitor(module, watch)
        self.config.progress_monitor = self.monitor

    def run(self, onnx_file: Path, shapes: Shapes, timings: bytes) -> Built:
        """The engine of a converted ONNX file. Raises BackendError or OutOfMemory."""
        parser = parse(self.library, self.network, onnx_file)
        self._configure()
        self._add_profiles(shapes)
        cache = self._timing_cache(timings)
        plan = self.builder.build_serialized_network(self.network, self.config)
        del parser
        plan = self.library.made(plan, "building the engine")
        return Built(bytes(memoryview(plan)), bytes(memoryview(cache.serialize())))

    def _configure(self) -> None:
        flags, config = self.library.module.BuilderFlag, self.config
        config.clear_flag(flags.TF32)  # "fp32" means float32
        if self.options.refit:
            config.set_flag(flags.REFIT)
        if self.options.strip:
            config.set_flag(flags.STRIP_PLAN)
            if not self.options.refit:
                config.set_flag(flags.REFIT_IDENTICAL)
        config.builder_optimization_level = self.options.level
        if self.options.aux_streams is not None:
            config.max_aux_streams = self.options.aux_streams

    def _add_profiles(self, shapes: Shapes) -> None:
        if all(isinstance(extent, int) for shape in shapes.values() for extent in shape):
            fixed = [(name, (tuple(shape),) * 3) for name, shape in shapes.items()]
            self._add_profile(fixed)
            return
        for profile in self.options.profiles:
            self._add_profile([(name, profile.shapes(name, shape)) for name, shape in shapes.items()])

    def _add_profile(self, ranges: Sequence[tuple[str, Sequence[tuple[Any, ...]]]]) -> None:
        profile = self.builder.create_optimization_profile()
        for name, (least, best, largest) in ranges:
            try:
                profile.set_shape(name, least, best, largest)
            except (RuntimeError, ValueError) as error:
                raise self.library.failure(
                    f"profile of {name} {least}, {best}, {largest}: {error}"
                ) from error
        if self.config.add_optimization_profile(profile) < 0:
            raise self.library.failure("adding an optimisation profile failed")

    def _timing_cache(self, timings: bytes) -> Any:
        """The cache of earlier builds, or an empty one if TensorRT refuses it."""
        for content in (timings, b""):
            cache = self.config.create_timing_cache(content)
            if cache is not None and self.config.set_timing_cache(cache, False):
                return cache
        raise self.library.failure("making a timing cache failed")


def parse(library: Library, network: Any, onnx_file: Path) -> Any:
    """Fills the network; returns the parser, which has to outlive it. Raises BackendError."""
    parser = library.module.OnnxParser(network, library.logger)
    if not parser.parse_from_file(str(onnx_file)):
        raise library.failure(f"parsing the network failed ({parser_errors(parser)})")
    return parser


def parser_errors(parser: Any) -> str:
    """What a parser or refitter has to say, with the node that it is about."""
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    return (
        "; ".join(f"{error.node_operator()} {error.node_name()}: {error.desc()}" for error in errors)
        or "no reason"
    )


def with_converted(source: Path, precision: Precision, use: Callable[[Path], Any]) -> Any:
    """`use(path)` of the network in another precision; the file is gone afterwards.

    It lies in the system's temporary folder and is as large as the network's weights in that precision.
    """
    with tempfile.TemporaryDirectory(prefix="hoirt-tensorrt-") as folder:
        path = Path(folder) / source.name
        convert(source, path, precision)
        return use(path)
