"""Engine: a loaded plan, its execution contexts, and the replacement of its weights."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hoirt.backends.tensorrt import driver
from hoirt.backends.tensorrt.build import parser_errors, with_converted
from hoirt.backends.tensorrt.library import Library
from hoirt.backends.tensorrt.precision import Precision, narrowed
from hoirt.backends.tensorrt.profiles import choose
from hoirt.backends.tensorrt.scratch import Block, Device, Scratch
from hoirt.errors import BackendError, InputError

ALIGNMENT = 256  # of every tensor's address
Shape = tuple[int, ...]
NAMES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "BOOL": "bool",
}


@dataclass(frozen=True)
class Tensor:
    """A port of the engine; -1 in `shape` is an extent that the caller chooses."""

    name: str
    shape: Shape
    dtype: str


@dataclass
class _Context:
    """What runs the engine on one stream with one set of shapes."""

    context: Any
    block: Block | None
    outputs: dict[str, Shape]
    # Aligned memory for tensors that are not, and for outputs that nobody asked for.
    staged: dict[str, Any] = field(default_factory=dict)
    calls: int = 0  # that are under way
    lock: threading.Lock = field(default_factory=threading.Lock)


class Engine:
    """Runs a plan. Thread-safe: work on different streams goes on at the same time.

    There is one execution context for each stream and set of shapes, and it is never given other shapes: a
    graph captured from a context is valid as long as the context stays as it was. All contexts of a stream
    share its scratch memory with those of other engines, which is right since a stream runs them in order.
    """

    def __init__(
        self, library: Library, plan: bytes, device: Device, scratch: Scratch, precision: Precision
    ) -> None:
        """precision: of the plan's graph. Raises BackendError if the plan cannot be loaded, OutOfMemory."""
        self.library, self.device, self.scratch, self.precision = library, device, scratch, precision
        library.messages.clear()
        self.runtime = library.made(library.module.Runtime(library.logger), "making a runtime")
        self.engine = library.made(self.runtime.deserialize_cuda_engine(plan), "loading the engine")
        self._contexts: dict[tuple[int, tuple[tuple[str, Shape], ...]], _Context] = {}
        self._lock = threading.Lock()
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        given = library.module.TensorIOMode.INPUT
        self.inputs = [self._tensor(n) for n in names if self.engine.get_tensor_mode(n) == given]
        self.outputs = [self._tensor(n) for n in names if self.engine.get_tensor_mode(n) != given]
        self.profiles: list[Mapping[str, Any]] = [
            {
                tensor.name: [
                    tuple(shape) for shape in self.engine.get_tensor_profile_shape(tensor.name, index)
                ]
                for tensor in self.inputs
            }
            for index in range(self.engine.num_optimization_profiles)
        ]
        scratch.reserve(self.engine.get_device_memory_size_for_profile_v2(0))

    def _tensor(self, name: str) -> Tensor:
        kind = self.engine.get_tensor_dtype(name).name
        if kind not in NAMES:
            raise BackendError(f"the engine's tensor {name} is {kind}, which hoirt does not use")
        return Tensor(name, tuple(self.engine.get_tensor_shape(name)), NAMES[kind])

    def __call__(
        self, inputs: Mapping[str, Any], outputs: Mapping[str, Any], stream: int
    ) -> dict[str, Any] | None:
        """Enqueues one run on `stream`: what _core.DeviceNetwork calls.

        Outputs that are given are written in place; for those that are None memory is made and returned.
        Those that are left out are written too, after this has returned and by each replay of a graph; their
        memory stays with the context.
        Raises InputError for shapes that no profile takes, BackendError, OutOfMemory.
        """
        missing = [tensor.name for tensor in self.inputs if tensor.name not in inputs]
        if missing:
            raise InputError(f"the engine needs the inputs {missing}; it was given {sorted(inputs)}")
        shapes = {tensor.name: tuple(inputs[tensor.name].shape) for tensor in self.inputs}
        made: dict[str, Any] = {}
        with self._context(stream, shapes) as context:
            for tensor in self.inputs:
                value = inputs[tensor.name]
                bound = self._bind(context, tensor, value, stream)
                if bound is not value:
                    driver.copy(bound.address, value.address, _bytes(value), stream)
            late = []
            for tensor in self.outputs:
                given = outputs.get(tensor.name)
                wanted = context.outputs[tensor.name]
                if tensor.name not in outputs:
                    given = self._staged(context, tensor, wanted, stream)
                elif given is None:
                    given = made[tensor.name] = self.device.empty(wanted, tensor.dtype, stream=stream)
                elif tuple(given.shape) != wanted:
                    raise InputError(f"the output {tensor.name} is {wanted}, not {tuple(given.shape)}")
                bound = self._bind(context, tensor, given, stream)
                if bound is not given:
                    late.append((given, bound))
            if not context.context.execute_async_v3(stream):
                raise self.library.failure("running the engine failed")
            for given, bound in late:
                driver.copy(given.address, bound.address, _bytes(given), stream)
        return made or None

    def _bind(self, context: _Context, tensor: Tensor, value: Any, stream: int) -> Any:
        """Gives the tensor to the engine, or aligned memory in its place, which is returned.

        TensorRT wants every address aligned, and the conditional half of a small input is not.
        """
        address = getattr(value, "address", None)
        if address is None:
            raise BackendError(f"the tensor {tensor.name} is not on the device: {type(value).__name__}")
        if str(value.dtype) != tensor.dtype:
            raise InputError(f"the tensor {tensor.name} is {tensor.dtype}, not {value.dtype}")
        if address % ALIGNMENT:
            value = self._staged(context, tensor, tuple(value.shape), stream)
        if not context.context.set_tensor_address(tensor.name, value.address):
            raise self.library.failure(f"binding the tensor {tensor.name} failed")
        return value

    def _staged(self, context: _Context, tensor: Tensor, shape: Shape, stream: int) -> Any:
        if tensor.name not in context.staged:
            context.staged[tensor.name] = self.device.empty(shape, tensor.dtype, stream=stream)
        return context.staged[tensor.name]

    @contextlib.contextmanager
    def _context(self, stream: int, shapes: Mapping[str, Shape]) -> Iterator[_Context]:
        """That of the stream and shapes, for one call at a time."""
        key = stream, tuple(shapes.items())
        with self._lock:
            if key not in self._contexts:
                self._contexts[key] = self._make_context(stream, shapes)
            kept = self._contexts[key]
            kept.calls += 1
        try:
            with kept.lock:
                yield kept
        finally:
            with self._lock:
                kept.calls -= 1

    def _make_context(self, stream: int, shapes: Mapping[str, Shape]) -> _Context:
        library = self.library
        index = choose(self.profiles, shapes)
        strategy = library.module.ExecutionContextAllocationStrategy.USER_MANAGED
        context = library.made(self.engine.create_execution_context(strategy), "making an execution context")
        if index and not context.set_optimization_profile_async(index, stream):
            raise library.failure(f"choosing the optimisation profile {index} failed")
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                raise library.failure(f"the engine refuses the shape {shape} of {name}")
        unknown = context.infer_shapes()
        if unknown:
            raise library.failure(f"the shapes of {unknown} do not follow from the inputs")
        size = context.update_device_memory_size_for_shapes()
        block = self.scratch.block(stream, size) if size else None
        if block is not None:
            context.set_device_memory(block.address, block.size)
        made = {tensor.name: tuple(context.get_tensor_shape(tensor.name)) for tensor in self.outputs}
        return _Context(context, block, made)

    def free_idle(self, streams: Collection[int]) -> None:
        """As in hoirt.backends.idle.Runner."""
        with self._lock:
            idle = [key for key, kept in self._contexts.items() if key[0] in streams and not kept.calls]
            if idle:
                self.device.synchronize()  # of those on its own stream the last run may not be done
            for key in idle:
                del self._contexts[key]

    def weights(self) -> list[str]:
        """Names of the weights that can be replaced, as in the pack's ONNX file; [] unless built for it."""
        return list(self._refitter().get_all_weights()) if self.engine.refittable else []

    def refit(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Replaces weights by their names in the pack's ONNX file, in the shapes that they have there.

        Float32 is converted as the engine needs it. Waits for the device, since no run may be under way.
        Raises InputError for a name or size that does not fit (nothing is changed then), BackendError if the
        engine was not built with refit.
        """
        refitter = self._refitter()
        known = set(refitter.get_all_weights())
        held = []
        for name, array in weights.items():
            if name not in known:
                raise InputError(
                    f"the engine has no weight {name!r} that can be replaced; it has {len(known)}"
                )
            value = np.ascontiguousarray(self._as_built(refitter, name, array))
            held.append(value)  # until the refit is done
            if not refitter.set_named_weights(name, self._handed_over(refitter, name, value)):
                raise self.library.failure(f"the weight {name} was refused")
        missing = list(refitter.get_missing_weights())
        if missing:
            raise InputError(f"these weights were fused with {missing[:8]}, which have to be given too")
        self._finish(refitter, refitter.refit_cuda_engine)

    def refit_from(self, source: Path) -> None:
        """Takes all weights from an ONNX file of the same graph: its own pack's, as a stripped plan needs at
        first, or that of a pack with a LoRA merged in. Errors as in `refit`.
        """
        with_converted(source, self.precision, self._refit_from_converted)

    def _refit_from_converted(self, path: Path) -> None:
        refitter = self._refitter()
        parser = self.library.module.OnnxParserRefitter(refitter, self.library.logger)
        if not parser.refit_from_file(str(path)):
            raise self.library.failure(f"the weights of {path.name} do not fit ({parser_errors(parser)})")
        self._finish(refitter, refitter.refit_cuda_engine)

    def _refitter(self) -> Any:
        if not self.engine.refittable:
            raise BackendError("the engine was not built to have its weights replaced: Options(refit=True)")
        self.library.messages.clear()
        refitter = self.library.module.Refitter(self.engine, self.library.logger)
        return self.library.made(refitter, "making a refitter")

    def _as_built(self, refitter: Any, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """The array in the type that the weight was built with."""
        prototype = refitter.get_weights_prototype(name)
        kind = prototype.dtype.name
        if array.size != prototype.size:
            raise InputError(f"the weight {name} has {prototype.size} values, not {array.size} {array.shape}")
        if array.dtype == np.float32 and not np.isfinite(array).all():
            raise InputError(f"the weight {name} holds NaN or infinity")
        if kind == "BF16":
            import ml_dtypes

            return narrowed(array, np.dtype(ml_dtypes.bfloat16))
        return narrowed(array, np.dtype(NAMES.get(kind, kind.lower())))

    def _handed_over(self, refitter: Any, name: str, value: NDArray[Any]) -> Any:
        kind = refitter.get_weights_prototype(name).dtype
        return self.library.module.Weights(kind, value.ctypes.data, value.size)

    def _finish(self, refitter: Any, refit: Any) -> None:
        with self._lock:  # no new context meanwhile
            self.device.synchronize()
            if not refit():
                raise self.library.failure("replacing the weights failed")
            self.library.release_refit(refitter)


def _bytes(value: Any) -> int:
    """Of a tensor on the device."""
    shape: tuple[int, ...] = value.shape
    sizes = {"float16": 2, "bfloat16": 2, "float32": 4, "int32": 4, "int64": 8, "uint8": 1, "bool": 1}
    return math.prod(shape) * sizes[str(value.dtype)]
