"""A session as a network: IO binding on the addresses of the caller's arrays, on the caller's stream."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hoirt.backends.cuda_driver import SideStream
from hoirt.backends.onnxruntime.providers import TIMING, providers_for
from hoirt.backends.python_network import address_of, make_network
from hoirt.errors import BackendError, OutOfMemory

if TYPE_CHECKING:
    from hoirt._core import Network, Port

# ONNX's element types: name in a session -> (number in TensorProto, dtype of a port).
TYPES = {
    "tensor(float)": (1, "float32"),
    "tensor(uint8)": (2, "uint8"),
    "tensor(int32)": (6, "int32"),
    "tensor(int64)": (7, "int64"),
    "tensor(bool)": (9, "bool"),
    "tensor(float16)": (10, "float16"),
    "tensor(double)": (11, "float64"),
    "tensor(bfloat16)": (16, "bfloat16"),
}


def open_session(
    path: Path,
    *,
    provider: str,
    device: str,
    engines: Path | None,
    shapes: Mapping[str, Sequence[int]],
    precision: str,
    threads: int,
) -> Network:
    """The network of an ONNX file; arguments as in Backend.open and providers_for. Raises BackendError."""
    import onnxruntime

    kind, _, number = device.partition(":")
    side = None if kind == "cpu" else SideStream(int(number))
    if engines is not None and provider == "tensorrt":
        for folder in (engines, engines.parent / TIMING):
            folder.mkdir(parents=True, exist_ok=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = min(threads, os.cpu_count() or 1)  # each of them spins while it waits
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        source: str | bytes = str(path)
        if precision != "fp32":
            from hoirt.backends.onnxruntime.narrow import narrow_file

            source = narrow_file(path, precision)
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path", str(path.parent)
            )
        for name, extent in _free_dimensions(path, shapes).items():
            options.add_free_dimension_override_by_name(name, extent)
        wanted = providers_for(
            provider,
            index=int(number or 0),
            stream=side.handle if side else 0,
            precision=precision,
            engines=engines,
        )
        session = onnxruntime.InferenceSession(source, options, providers=wanted)
        _check_providers(session.get_providers(), wanted)
        runner = Runner(session, device, side)
        return make_network(runner.inputs, runner.outputs, runner, device=device)
    except BackendError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no base of their own
        raise _failure(f"onnxruntime cannot open {path}: {error}") from error


class Runner:
    """Calls a session on the caller's arrays; the function of a network, see python_network.Enqueue."""

    def __init__(self, session: Any, device: str, side: SideStream | None) -> None:
        import onnxruntime

        self._session = session
        self._kind, _, number = device.partition(":")
        self._index = int(number or 0)
        self._side = side
        self._lock = threading.Lock() if side is not None else contextlib.nullcontext()
        self._options = onnxruntime.RunOptions()
        # The work is only enqueued: whoever waits waits for the stream.
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._types = {value.name: TYPES[value.type][0] for value in _values(session)}
        self.inputs = [_port(value) for value in session.get_inputs()]
        self.outputs = [_port(value) for value in session.get_outputs()]
        if side is not None:
            weakref.finalize(self, side.close)

    def __call__(self, inputs: dict[str, Any], outputs: dict[str, Any], stream: int) -> dict[str, Any] | None:
        binding = self._session.io_binding()
        for name, array in inputs.items():
            self._bind(binding.bind_input, name, array)
        for name, array in outputs.items():
            if array is None:
                binding.bind_output(name, self._kind, self._index)
            else:
                self._bind(binding.bind_output, name, array)
        try:
            with self._lock, self._side.inside(stream) if self._side else contextlib.nullcontext():
                self._session.run_with_iobinding(binding, self._options)
        except BackendError:
            raise
        except Exception as error:
            raise _failure(f"onnxruntime failed: {error}") from error
        made = dict(zip(outputs, binding.get_outputs(), strict=True))
        return {name: made[name] for name, array in outputs.items() if array is None}

    def _bind(self, bind: Any, name: str, array: Any) -> None:
        bind(name, self._kind, self._index, self._types[name], list(array.shape), address_of(array))


def _failure(text: str) -> BackendError | OutOfMemory:
    """ONNX Runtime tells a lack of memory, its own arena's or CUDA's, by words only."""
    short = "Failed to allocate memory" in text or "out of memory" in text
    return OutOfMemory(text) if short else BackendError(text)


def _values(session: Any) -> list[Any]:
    return [*session.get_inputs(), *session.get_outputs()]


def _port(value: Any) -> Port:
    from hoirt import _core

    shape = [extent if isinstance(extent, int) else -1 for extent in value.shape]
    return _core.Port(value.name, shape, TYPES[value.type][1])


def _free_dimensions(path: Path, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """The names of dimensions in the graph and the extents that `shapes` fixes them to."""
    if not shapes:
        return {}
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    ports = {value.name: value.type.tensor_type.shape.dim for value in graph.input}
    found: dict[str, int] = {}
    for name, shape in shapes.items():
        if name not in ports or len(ports[name]) != len(shape):
            raise BackendError(f"{path}: no input {name} with {len(shape)} dimensions to fix")
        for dimension, extent in zip(ports[name], shape, strict=True):
            label = dimension.dim_param
            if (found.setdefault(label, extent) if label else dimension.dim_value) != extent:
                raise BackendError(f"{path}: the shape {tuple(shape)} does not fit the input {name}")
    return found


def _check_providers(got: Sequence[str], wanted: Sequence[Any]) -> None:
    """ONNX Runtime goes on without a provider that it cannot load; an explicit choice does not."""
    first = wanted[0] if isinstance(wanted[0], str) else wanted[0][0]
    if first not in got:
        raise BackendError(
            f"onnxruntime could not start its {first}; it has {', '.join(got)}. "
            "Its log says which library is missing (CUDA and cuDNN must be those it was built for)"
        )
