"""The backend tensorrt: strongly typed engines of TensorRT 10 and 11, built from a pack's ONNX files.

The package `tensorrt` is imported when a network is opened. docs/gpu.md explains the parts.
"""

from hoirt.backends.tensorrt.backend import Backend
from hoirt.backends.tensorrt.build import Options
from hoirt.backends.tensorrt.engine import Engine
from hoirt.backends.tensorrt.profiles import Profile

__all__ = ["Backend", "Engine", "Options", "Profile"]
