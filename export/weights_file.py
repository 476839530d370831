"""The weights of one ONNX graph: how they are stored, and their file beside the graph, written one by one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import ml_dtypes
import numpy as np
import onnx_ir as ir

INLINE_BYTES = 1024  # smaller tensors stay in the graph, where shape inference needs them
PAGE_BYTES = 1 << 20  # from this size on a tensor starts on a page, so that it can be mapped by itself
Storage = Literal["fp32", "fp16", "bf16"]
Progress = Callable[[int], object]  # called with the number of bytes that were written
NARROW = {
    "fp16": (np.dtype(np.float16), ir.DataType.FLOAT16, "float16"),
    "bf16": (np.dtype(ml_dtypes.bfloat16), ir.DataType.BFLOAT16, "bfloat16"),
}


def store_narrow(model: ir.Model, storage: Storage) -> None:
    """Matrices become halves or bfloat16, cast to float32 in the graph; vectors (biases, norms, frequency
    tables) stay float32, since they are small and the precision of some matters.

    The values are converted when they are written, which raises ValueError for one that is not finite or
    does not fit.
    """
    if storage == "fp32":
        return
    _, kind, _ = NARROW[storage]
    casts = []
    for name, value in sorted(model.graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT:
            continue
        shape = tensor.shape.numpy()
        if tensor.nbytes < INLINE_BYTES or sum(extent > 1 for extent in shape) < 2:
            continue
        stored = ir.Value(name=f"{name}.{storage}", shape=ir.Shape(shape), type=ir.TensorType(kind))
        stored.const_value = _narrowed(tensor, name, storage)
        cast = ir.node("Cast", [stored], {"to": ir.DataType.FLOAT}, name=f"{name}.cast")
        del model.graph.initializers[name]
        value.replace_all_uses_with(cast.outputs[0])
        cast.outputs[0].name = name
        model.graph.register_initializer(stored)
        casts.append(cast)
    first = next(iter(model.graph), None)
    if first is not None and casts:
        model.graph.insert_before(first, casts)


def _narrowed(tensor: ir.TensorProtocol, name: str, storage: Storage) -> ir.LazyTensor:
    dtype, kind, word = NARROW[storage]

    def convert() -> ir.TensorProtocol:
        array = tensor.numpy()
        with np.errstate(over="ignore"):
            narrow = array.astype(dtype)
        if not np.isfinite(narrow).all():
            raise ValueError(
                f"the weight {name} is not finite or does not fit into {word}; use storage='fp32'"
            )
        return ir.tensor(narrow)

    return ir.LazyTensor(convert, kind, ir.Shape(tensor.shape.numpy()), name=f"{name}.{storage}")


def weights_bytes(model: ir.Model) -> int:
    """About how many bytes `write_model` will write for the weights."""
    tensors = (value.const_value for value in model.graph.initializers.values())
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


def write_model(model: ir.Model, path: Path, progress: Progress | None = None) -> dict[str, str]:
    """Weights sorted by name into the .bin, everything else into the .onnx; at most one weight is in memory.

    Returns the sha256 of the files by name. A failure leaves neither.
    """
    weights_path = path.with_suffix(".bin")
    weights = dict(sorted(model.graph.initializers.items()))
    model.graph.initializers.clear()
    digest, offset = hashlib.sha256(), 0
    try:
        with weights_path.open("wb") as file:
            for name, value in weights.items():
                assert value.const_value is not None
                tensor = value.const_value
                size, shape, dtype = tensor.nbytes, tensor.shape.numpy(), tensor.dtype
                data = np.asarray(tensor.numpy(), order="C")
                if data.nbytes != size or data.shape != tuple(shape):
                    raise ValueError(f"the weight {name} has the shape {data.shape}, expected {tuple(shape)}")
                if size >= INLINE_BYTES:
                    alignment = 4096 if size >= PAGE_BYTES else 64
                    padding = b"\0" * (-offset % alignment)
                    raw = memoryview(data.reshape(-1).view(np.uint8))
                    for part in (padding, raw):
                        file.write(part)
                        digest.update(part)
                    value.const_value = ir.ExternalTensor(
                        location=weights_path.name,
                        offset=offset + len(padding),
                        length=size,
                        dtype=dtype,
                        shape=ir.Shape(shape),
                        name=name,
                        base_dir=str(path.parent),
                    )
                    offset += len(padding) + size
                    if progress is not None:
                        progress(size)
                else:
                    value.const_value = ir.tensor(data, name=name)
                model.graph.initializers[name] = value
        graph = ir.to_proto(model).SerializeToString(deterministic=True)
        path.write_bytes(graph)
    except BaseException:
        weights_path.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise
    hashes = {path.name: hashlib.sha256(graph).hexdigest()}
    if offset == 0:
        weights_path.unlink()
        return hashes
    return {**hashes, weights_path.name: digest.hexdigest()}
