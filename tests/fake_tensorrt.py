"""A stand-in for the package tensorrt: its order of calls, ranges and return values, and real results.

It has those names of the real bindings that hoirt uses and no others; tensorrt_names.json has the real ones.
An engine's "kernels" are ONNX Runtime on the parsed graph, run on raw addresses as TensorRT runs on them.
"""

from __future__ import annotations

import ctypes
import enum
import json
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime
from fake_tensorrt_parts import Errors, report, weights_of

SCRATCH = 4096  # bytes that every context needs, times the items of its first input
ELEMENTS = {1: "FLOAT", 10: "HALF", 16: "BF16", 6: "INT32", 7: "INT64", 9: "BOOL", 2: "UINT8"}
NUMPY = {"FLOAT": np.float32, "HALF": np.float16, "INT32": np.int32, "INT64": np.int64}


class Plan:
    """What is in a serialised engine. Kept in memory by number; the bytes that are handed out name it."""

    known: ClassVar[dict[int, Plan]] = {}

    def __init__(self, file: bytes, profiles: list[Any], flags: set[str], weights: Mapping[str, Any]) -> None:
        self.file, self.profiles, self.flags, self.weights = file, profiles, flags, dict(weights)

    def serialise(self) -> bytes:
        number = len(self.known)
        self.known[number] = self
        return b"fake plan " + json.dumps({"number": number}).encode()


def make(version: str) -> Any:
    """A fresh module of that version."""
    return _Module(version).module


class _Module:
    def __init__(self, version: str) -> None:
        self.major = int(version.partition(".")[0])
        self.calls: list[str] = []
        self.refuse: set[str] = set()  # names of calls that fail
        self.steps = 5  # of a build
        # Called with a stream, with what is to be done when its turn comes, and with the arrays of that.
        self.enqueue: Callable[[int, Callable[[], None], list[Any]], None] = lambda _, work, arrays: work()
        fake = self

        class Severity(enum.Enum):
            INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

        class ILogger:
            def __init__(self) -> None:
                self.alive = True

            def log(self, severity: Any, msg: str) -> None:
                raise NotImplementedError

        ILogger.Severity = Severity  # type: ignore[attr-defined]
        flags = ["REFIT", "STRIP_PLAN", "REFIT_IDENTICAL", "TF32"] + (["FP16"] if self.major == 10 else [])
        BuilderFlag = enum.Enum("BuilderFlag", flags)
        DataType = enum.Enum("DataType", [*ELEMENTS.values(), "INT8"])
        Mode = enum.Enum("TensorIOMode", ["NONE", "INPUT", "OUTPUT"])
        Strategy = enum.Enum(
            "ExecutionContextAllocationStrategy", ["STATIC", "ON_PROFILE_CHANGE", "USER_MANAGED"]
        )
        Creation = enum.IntEnum("NetworkDefinitionCreationFlag", {"STRONGLY_TYPED": 1})

        def ported(logger: Any, call: str) -> bool:
            """Records a call; False if it is to fail, which is logged as TensorRT does."""
            fake.calls.append(call)
            if call in fake.refuse:
                logger.log(
                    Severity.ERROR,
                    f"fake failure of {call}: out of memory" if "memory" in call else f"no {call}",
                )
                return False
            return True

        class IProgressMonitor:
            def __init__(self) -> None:
                pass

        class Builder:
            def __init__(self, logger: ILogger) -> None:
                assert logger.alive
                self._logger = logger

            def create_network(self, flags: int = 0) -> Any:
                typed = fake.major >= 11 or bool(flags & 1 << int(Creation.STRONGLY_TYPED))
                assert fake.major == 10 or flags == 0, "the flag is deprecated"
                return (
                    SimpleNamespace(typed=typed, file=None)
                    if ported(self._logger, "create_network")
                    else None
                )

            def create_builder_config(self) -> Any:
                return Config(self._logger)

            def create_optimization_profile(self) -> Any:
                return Profile()

            def build_serialized_network(self, network: Any, config: Any) -> Any:
                if not ported(self._logger, "build_serialized_network"):
                    return None
                assert network.typed and network.file is not None
                if not report(config.progress_monitor, fake.steps):
                    self._logger.log(Severity.ERROR, "build cancelled")
                    return None
                stripped = BuilderFlag.STRIP_PLAN in config.flags
                plan = Plan(
                    network.file,
                    config.profiles,
                    {flag.name for flag in config.flags},
                    {} if stripped else network.weights,
                )
                config.cache.content += b"."
                return plan.serialise()

        class Config:
            def __init__(self, logger: Any) -> None:
                self._logger = logger
                self.flags = {BuilderFlag.TF32}
                self.profiles: list[dict[str, Any]] = []
                self.progress_monitor: Any = None
                self.builder_optimization_level, self.max_aux_streams = 3, 1
                self.cache: Any = None

            def set_flag(self, flag: Any) -> None:
                self.flags.add(flag)

            def clear_flag(self, flag: Any) -> None:
                self.flags.discard(flag)

            def add_optimization_profile(self, profile: Any) -> int:
                if not ported(self._logger, "add_optimization_profile"):
                    return -1
                self.profiles.append(profile.ranges)
                return len(self.profiles) - 1

            def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
                if serialized_timing_cache == b"damaged":
                    return None
                cache = SimpleNamespace(content=bytes(serialized_timing_cache))
                cache.serialize = lambda: cache.content
                return cache

            def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
                assert not ignore_mismatch
                self.cache = cache
                return ported(self._logger, "set_timing_cache")

        class Profile:
            def __init__(self) -> None:
                self.ranges: dict[str, Any] = {}

            def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
                if not all(0 <= a <= b <= c for a, b, c in zip(min, opt, max, strict=True)):
                    raise RuntimeError("Shape provided for min is inconsistent with other shapes.")
                self.ranges[input] = (tuple(min), tuple(opt), tuple(max))

        class OnnxParser(Errors):
            def __init__(self, network: Any, logger: Any) -> None:
                self._network, self._logger = network, logger

            def parse_from_file(self, model: str) -> bool:
                if not ported(self._logger, "parse_from_file"):
                    self.num_errors = 1
                    return False
                loaded = onnx.load(model)
                self._network.weights = weights_of(loaded)
                self._network.file = loaded.SerializeToString()
                return True

        class OnnxParserRefitter(Errors):
            def __init__(self, refitter: Any, logger: Any) -> None:
                self._refitter, self._logger = refitter, logger

            def refit_from_file(self, model: str) -> bool:
                if not ported(self._logger, "refit_from_file"):
                    self.num_errors = 1
                    return False
                self._refitter._given = weights_of(onnx.load(model))
                return True

        class Refitter:
            def __init__(self, engine: Any, logger: Any) -> None:
                assert engine.refittable
                self._engine, self._given = engine, dict(engine._plan.weights)

            def get_all_weights(self) -> list[str]:
                return list(self._engine._prototypes)

            def get_weights_prototype(self, weights_name: str) -> Any:
                array = self._engine._prototypes.get(weights_name)
                kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
                return SimpleNamespace(dtype=DataType[ELEMENTS[kind]], size=array.size)

            def set_named_weights(self, name: str, weights: Any) -> bool:
                old = self._engine._prototypes[name]
                kind = DataType[ELEMENTS[onnx.helper.np_dtype_to_tensor_dtype(old.dtype)]]
                if weights.type != kind or weights.count != old.size:
                    return False
                data = ctypes.string_at(weights.ptr, old.nbytes)
                self._given[name] = np.frombuffer(data, old.dtype).reshape(old.shape)
                return True

            def get_missing_weights(self) -> list[str]:
                return [name for name in self._engine._prototypes if name not in self._given]

            def refit_cuda_engine(self) -> bool:
                if self.get_missing_weights() or not ported(self._engine._logger, "refit_cuda_engine"):
                    return False
                self._engine._plan.weights = self._given
                self._engine._session = None
                return True

        if self.major >= 11:
            Refitter.release_refit_resources = lambda self: ported(self._engine._logger, "release")  # type: ignore[attr-defined]

        class Runtime:
            def __init__(self, logger: Any) -> None:
                self._logger = logger

            def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
                head, _, rest = bytes(serialized_engine).partition(b"fake plan ")
                if head or not rest or not ported(self._logger, "deserialize_cuda_engine"):
                    self._logger.log(Severity.ERROR, "not a plan of this version")
                    return None
                stored = Plan.known[json.loads(rest)["number"]]
                copy = Plan(stored.file, stored.profiles, stored.flags, stored.weights)
                return CudaEngine(copy, self._logger)

        class CudaEngine:
            def __init__(self, plan: Plan, logger: Any) -> None:
                self._plan, self._logger = plan, logger
                model = onnx.load_from_string(plan.file)
                self._model = model
                self._prototypes = weights_of(model)
                self._session: Any = None
                self._known: dict[Any, dict[str, tuple[int, ...]]] = {}
                self._inputs = [port.name for port in model.graph.input]
                self._ports = {port.name: port for port in (*model.graph.input, *model.graph.output)}
                self.num_io_tensors = len(self._ports)
                self.num_optimization_profiles = max(1, len(plan.profiles))
                self.refittable = bool(plan.flags & {"REFIT", "REFIT_IDENTICAL"})

            def get_tensor_name(self, index: int) -> str:
                return list(self._ports)[index]

            def get_tensor_mode(self, name: str) -> Any:
                return Mode.INPUT if name in self._inputs else Mode.OUTPUT

            def get_tensor_dtype(self, name: str) -> Any:
                return DataType[ELEMENTS[self._ports[name].type.tensor_type.elem_type]]

            def get_tensor_shape(self, name: str) -> Any:
                dims = self._ports[name].type.tensor_type.shape.dim
                return [-1 if dim.dim_param else dim.dim_value for dim in dims]

            def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Any]:
                return [list(shape) for shape in self._plan.profiles[profile_index][name]]

            def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
                return SCRATCH * int(self._plan.profiles[profile_index][self._inputs[0]][2][0])

            def create_execution_context(self, strategy: Any) -> Any:
                assert strategy is Strategy.USER_MANAGED
                return ExecutionContext(self) if ported(self._logger, "create_execution_context") else None

            def _run_on_zeros(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
                """The shapes of the outputs."""
                key = tuple(shapes.items())
                if key not in self._known:
                    types = {name: NUMPY[self.get_tensor_dtype(name).name] for name in shapes}
                    outputs = self._run({name: np.zeros(shapes[name], types[name]) for name in shapes})
                    self._known[key] = {name: value.shape for name, value in outputs.items()}
                return self._known[key]

            def _run(self, given: dict[str, Any]) -> dict[str, Any]:
                if self._session is None:
                    for tensor in self._model.graph.initializer:
                        if tensor.name in self._plan.weights:
                            array = np.ascontiguousarray(self._plan.weights[tensor.name])
                            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
                    options = onnxruntime.SessionOptions()
                    options.intra_op_num_threads = 1  # no threads of its own, which would outlive a test
                    self._session = onnxruntime.InferenceSession(self._model.SerializeToString(), options)
                names = [port.name for port in self._model.graph.output]
                return dict(zip(names, self._session.run(names, given), strict=True))

        class ExecutionContext:
            def __init__(self, engine: Any) -> None:
                self._engine, self._logger = engine, engine._logger
                self._profile, self._memory = 0, 0
                self._shapes: dict[str, tuple[int, ...]] = {}
                self._addresses: dict[str, int] = {}

            def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
                self._profile = profile_index
                self._shapes.clear()
                return ported(self._logger, "set_optimization_profile_async")

            def set_input_shape(self, name: str, shape: Any) -> bool:
                low, _, high = self._engine._plan.profiles[self._profile][name]
                if not all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True)):
                    self._logger.log(Severity.ERROR, "shape outside of the profile")
                    return False
                self._shapes[name] = tuple(shape)
                return ported(self._logger, "set_input_shape")

            def infer_shapes(self) -> list[str]:
                return [name for name in self._engine._inputs if name not in self._shapes]

            def update_device_memory_size_for_shapes(self) -> int:
                assert not self.infer_shapes()
                return SCRATCH * self._shapes[self._engine._inputs[0]][0]

            def set_device_memory(self, memory: int, size: int) -> None:
                assert memory % 256 == 0 and size >= self.update_device_memory_size_for_shapes()
                self._memory = memory

            def get_tensor_shape(self, name: str) -> Any:
                extents: dict[str, int] = {}
                for key, shape in self._shapes.items():
                    dims = self._engine._ports[key].type.tensor_type.shape.dim
                    extents |= {d.dim_param: e for d, e in zip(dims, shape, strict=True) if d.dim_param}
                dims = self._engine._ports[name].type.tensor_type.shape.dim
                if any(dim.dim_param and dim.dim_param not in extents for dim in dims):
                    return self._engine._run_on_zeros(self._shapes)[name]
                return [extents[dim.dim_param] if dim.dim_param else dim.dim_value for dim in dims]

            def set_tensor_address(self, name: str, memory: int) -> bool:
                assert memory % 256 == 0
                self._addresses[name] = memory
                return ported(self._logger, "set_tensor_address")

            def execute_async_v3(self, stream_handle: int) -> bool:
                missing = self._engine._prototypes.keys() - self._engine._plan.weights.keys()
                ready = self._memory and self._addresses.keys() == self._engine._ports.keys()
                if not ready or missing or not ported(self._logger, "execute_async_v3"):
                    self._logger.log(Severity.ERROR, "not ready to run")
                    return False
                views = {name: self._view(name) for name in self._engine._ports}

                def work() -> None:
                    given = {name: views[name] for name in self._engine._inputs}
                    for name, value in self._engine._run(given).items():
                        views[name][...] = value

                fake.enqueue(stream_handle, work, list(views.values()))
                return True

            def _view(self, name: str) -> Any:
                shape = tuple(self.get_tensor_shape(name))
                dtype = np.dtype(NUMPY[self._engine.get_tensor_dtype(name).name])
                size = int(np.prod(shape)) * dtype.itemsize
                buffer = (ctypes.c_char * size).from_address(self._addresses[name])
                return np.frombuffer(buffer, dtype).reshape(shape)

        self.module = SimpleNamespace(
            __version__=version,
            fake=self,
            Builder=Builder,
            BuilderFlag=BuilderFlag,
            ExecutionContextAllocationStrategy=Strategy,
            ILogger=ILogger,
            IProgressMonitor=IProgressMonitor,
            NetworkDefinitionCreationFlag=Creation,
            OnnxParser=OnnxParser,
            OnnxParserRefitter=OnnxParserRefitter,
            Refitter=Refitter,
            Runtime=Runtime,
            TensorIOMode=Mode,
            Weights=lambda type, ptr, count: SimpleNamespace(type=type, ptr=ptr, count=count),
            classes={
                "Builder": Builder,
                "IBuilderConfig": Config,
                "IOptimizationProfile": Profile,
                "OnnxParser": OnnxParser,
                "OnnxParserRefitter": OnnxParserRefitter,
                "Refitter": Refitter,
                "Runtime": Runtime,
                "ICudaEngine": CudaEngine,
                "IExecutionContext": ExecutionContext,
            },
        )
