"""Tiny ONNX models for the backend tests, made without torch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: dict[str, NDArray[np.generic]] | None = None,
    *,
    opset: int = 21,
    external: bool = False,
) -> Path:
    """Writes the graph, with all but the smallest weights in `<stem>.bin` if `external`."""
    tensors = [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(list(nodes), "tiny", list(inputs), list(outputs), tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.save(
        model,
        str(path),
        save_as_external_data=external,
        location=path.with_suffix(".bin").name if external else None,
        size_threshold=100,
    )
    return path


def value(name: str, shape: Sequence[int | str], dtype: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def conv_net(path: Path, *, channels: int = 16, external: bool = False) -> Path:
    """x (n,3,h,w), gain (n,) -> y (n,4,h,w): convolution, group norm, SiLU, convolution, times gain."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.standard_normal((channels, 3, 3, 3)).astype(np.float32) / 5,
        "b1": rng.standard_normal(channels).astype(np.float32),
        "scale": rng.standard_normal(channels).astype(np.float32),
        "bias": rng.standard_normal(channels).astype(np.float32),
        "w2": rng.standard_normal((4, channels, 3, 3)).astype(np.float32) / 12,
        "column": np.array([-1, 1, 1, 1], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("GroupNormalization", ["a", "scale", "bias"], ["b"], num_groups=4, epsilon=1e-5),
        helper.make_node("Sigmoid", ["b"], ["c"]),
        helper.make_node("Mul", ["b", "c"], ["d"]),
        helper.make_node("Conv", ["d", "w2"], ["e"], pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["gain", "column"], ["g"]),
        helper.make_node("Mul", ["e", "g"], ["y"]),
    ]
    return save(
        path,
        nodes,
        [value("x", ["n", 3, "h", "w"]), value("gain", ["n"])],
        [value("y", ["n", 4, "h", "w"])],
        weights,
        external=external,
    )


def norm_net(path: Path) -> Path:
    """x (n,64,h,w) -> y: group norm and a norm over a whole item, the thread-sensitive layers."""
    rng = np.random.default_rng(1)
    weights = {
        "scale": rng.standard_normal(64).astype(np.float32),
        "bias": rng.standard_normal(64).astype(np.float32),
        "one": np.ones((64, 24, 24), np.float32),
        "zero": np.zeros((64, 24, 24), np.float32),
    }
    nodes = [
        helper.make_node("GroupNormalization", ["x", "scale", "bias"], ["a"], num_groups=2, epsilon=1e-5),
        helper.make_node("LayerNormalization", ["a", "one", "zero"], ["y"], axis=1, epsilon=1e-3),
    ]
    shape = ["n", 64, 24, 24]
    return save(path, nodes, [value("x", shape)], [value("y", shape)], weights)


def inputs_for(n: int = 2, size: int = 8, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Inputs of `conv_net`."""
    rng = np.random.default_rng(seed)
    return {
        "x": rng.standard_normal((n, 3, size, size)).astype(np.float32),
        "gain": rng.uniform(0.5, 2, n).astype(np.float32),
    }


def reference(path: Path, inputs: dict[str, NDArray[np.generic]]) -> list[NDArray[np.generic]]:
    """The outputs that ONNX Runtime computes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [np.asarray(array) for array in session.run(None, inputs)]
