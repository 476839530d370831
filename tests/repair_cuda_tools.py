"""Repairs on a GPU that the CPU plays, with the backend tensorrt: all of hoirt's own code for a GPU, and ONNX
Runtime for TensorRT's engines; and what they must equal.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_tensorrt
import hoirt
import numpy as np
import played_cuda
import pytest
from hoirt.backends import registry
from hoirt.backends.tensorrt import Backend, driver
from hoirt.backends.tensorrt.library import Library
from numpy.typing import NDArray
from repair_cases import BOXES

NEEDS_PLAYED_GPU = pytest.mark.skipif(
    not played_cuda.FOLDER, reason="HOIRT_PLAYED_CUDA is not set; make sanitize builds what it names"
)
CALL: dict[str, Any] = {"hands": BOXES, "steps": 4, "prompt": "a hand"}


def noise(height: int = 128, width: int = 128, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def tensorrt() -> Iterator[Any]:
    """The stand-in for the module tensorrt, with its engines on the streams of the played GPU."""
    made = fake_tensorrt.make("10.16.1.11")
    made.fake.enqueue = played_cuda.enqueue
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "tensorrt", made)
        patch.setattr(Library, "_one", None)
        patch.setattr(driver, "copy", played_cuda.copy)
        patch.setitem(registry._loaded, "tensorrt", Backend())
        patch.setattr("hoirt.backends.tensorrt.backend.installed_version", lambda: "10.16.1.11")
        yield made


def on_gpu(pack: str | Path) -> hoirt.Refiner:
    made = hoirt.Refiner(pack, device="cuda", backend="tensorrt", precision="fp32", cache=False)
    assert (made.device, made.backend) == ("cuda:0", "tensorrt")
    return made


def on_cpu(pack: str | Path) -> hoirt.Refiner:
    return hoirt.Refiner(pack, device="cpu", backend="onnxruntime", precision="fp32", cache=False)


@pytest.fixture(scope="module")
def gpu(tensorrt: Any) -> hoirt.Refiner:
    return on_gpu("handrefiner-tiny")


@pytest.fixture(scope="module")
def cpu() -> hoirt.Refiner:
    return on_cpu("handrefiner-tiny")


def check(found: hoirt.Result, expected: hoirt.Result) -> None:
    """Pictures within 2 of 255 in 99.9 % of the pixels; what is drawn and chosen is the same."""
    assert (found.status, found.strength) == (expected.status, expected.strength)
    ours, theirs = (np.asarray(result.image, int) for result in (found, expected))
    assert ours.shape == theirs.shape and (np.abs(ours - theirs) <= 2).mean() > 0.999
    for name in ("mask", "depth"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
