"""A device in CPU memory, a small network and the fixtures of the tests of the backend tensorrt."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import fake_tensorrt
import numpy as np
import onnx
import pytest
from hoirt.backends import devices
from hoirt.backends.tensorrt import Backend, Engine, Options, Profile
from hoirt.backends.tensorrt.library import Library

DEVICE = "cuda:0"
AROUND = Profile(batch=(1, 2, 4), pixels=(32, 64, 128))


class Memory:
    """_core.DeviceTensor on the CPU: an address, aligned as device memory is."""

    def __init__(self, shape: tuple[int, ...], dtype: str, offset: int = 0) -> None:
        self.shape, self.dtype = tuple(shape), dtype
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._bytes = np.zeros(size + 512, np.uint8)
        start = -self._bytes.ctypes.data % 256 + offset
        self.array = self._bytes[start : start + size].view(dtype).reshape(shape)

    @property
    def address(self) -> int:
        return int(self.array.ctypes.data)

    @classmethod
    def of(cls, array: Any) -> Memory:
        memory = cls(array.shape, str(array.dtype))
        memory.array[...] = array
        return memory


class Device:
    """_core.Device; counts what it is asked for."""

    def __init__(self, name: str = "Fake GPU") -> None:
        self.name = name
        self.sizes: list[int] = []
        self.waits = 0

    def empty(self, shape: tuple[int, ...], dtype: str, *, stream: int = 0) -> Memory:
        memory = Memory(shape, dtype)
        self.sizes.append(memory.array.nbytes)
        return memory

    def synchronize(self) -> None:
        self.waits += 1


def write_network(path: Path, seed: int = 0) -> Path:
    """sample (N,4,h,w), scale (N,) -> prediction (N,4,h,w): convolution, norm, product; weights beside it."""
    rng = np.random.default_rng(seed)
    helper = onnx.helper
    weights = {
        "conv.weight": rng.standard_normal((4, 4, 3, 3)).astype(np.float32) / 6,
        "conv.bias": rng.standard_normal(4).astype(np.float32),
        "norm.one": np.ones(4, np.float32),
        "norm.zero": np.zeros(4, np.float32),
        "column": np.array([-1, 1, 1, 1], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["sample", "conv.weight", "conv.bias"], ["a"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("InstanceNormalization", ["a", "norm.one", "norm.zero"], ["b"], "norm"),
        helper.make_node("Reshape", ["scale", "column"], ["c"], "reshape"),
        helper.make_node("Mul", ["b", "c"], ["prediction"], "mul"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "network",
        [value("sample", 1, ["N", 4, "h", "w"]), value("scale", 1, ["N"])],
        [value("prediction", 1, ["N", 4, "h", "w"])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, str(path), save_as_external_data=True, location=f"{path.stem}.bin", size_threshold=100)
    return path


@pytest.fixture(params=["10.16.1.11", "11.4.0.106"])
def module(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    made = fake_tensorrt.make(request.param)
    monkeypatch.setitem(sys.modules, "tensorrt", made)
    monkeypatch.setattr(Library, "_one", None)
    return made


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    made = Device()
    monkeypatch.setattr(devices, "open_device", lambda name: made)
    return made


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return write_network(tmp_path / "step.onnx")


def opened(path: Path, **options: Any) -> Engine:
    how = {"precision": "fp32", "cache_path": ""} | {
        key: options.pop(key)
        for key in ("precision", "cache_path", "report", "cancel", "shapes")
        if key in options
    }
    made = Options(**{"profiles": (AROUND.exact(), AROUND), **options})
    return Backend().open_engine(str(path), device=DEVICE, options=made, **how)


def inputs(n: int = 2, h: int = 8, w: int = 8) -> dict[str, Any]:
    rng = np.random.default_rng(n + h)
    return {
        "sample": rng.standard_normal((n, 4, h, w)).astype(np.float32),
        "scale": rng.uniform(0.5, 2, n).astype(np.float32),
    }


def run(engine: Engine, given: dict[str, Any], stream: int = 7) -> Any:
    memories = {name: Memory.of(array) for name, array in given.items()}
    made = engine(memories, {"prediction": None}, stream)
    assert made is not None
    return made["prediction"].array
