"""Weights of an ONNX graph, read where they lie and written one by one; the graph itself stays small."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import PackError

if TYPE_CHECKING:
    from onnx import GraphProto, TensorProto

INLINE_BYTES = 1024  # smaller tensors stay in the graph, where shape inference sees them
ALIGNMENT = 64


def read_tensor(tensor: TensorProto, folder: Path) -> NDArray[Any]:
    """The values; large ones stay in their file and are mapped. bfloat16 comes as ml_dtypes' type.

    Raises PackError for a tensor whose file is missing or too short.
    """
    from onnx import TensorProto, helper, numpy_helper

    if tensor.data_location != TensorProto.EXTERNAL:
        return np.asarray(numpy_helper.to_array(tensor))
    told = {entry.key: entry.value for entry in tensor.external_data}
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    shape = tuple(tensor.dims)
    if 0 in shape:
        return np.empty(shape, dtype)
    path = folder / told.get("location", "")
    try:
        return np.memmap(path, dtype, "r", int(told.get("offset", "0")), shape)
    except (OSError, ValueError) as error:
        raise PackError(f"the weight {tensor.name} cannot be read from {path}: {error}") from error


class Writer:
    """Adds tensors to a graph, the large ones to the file of weights beside it."""

    def __init__(self, graph: GraphProto, weights: Path) -> None:
        self.graph = graph
        self.file = weights.open("wb")
        self.name = weights.name

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def add(self, name: str, array: NDArray[Any]) -> None:
        """An initialiser of the array's type."""
        from onnx import TensorProto, helper

        tensor = self.graph.initializer.add()
        tensor.name = name
        tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        tensor.dims.extend(array.shape)
        if array.nbytes < INLINE_BYTES:
            tensor.raw_data = array.tobytes()
            return
        offset = self.file.tell()
        self.file.write(bytes(-offset % ALIGNMENT))
        offset += -offset % ALIGNMENT
        np.ascontiguousarray(array).view(np.uint8).reshape(-1).tofile(self.file)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", self.name), ("offset", offset), ("length", array.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
