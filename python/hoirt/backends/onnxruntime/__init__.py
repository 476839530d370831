"""The onnxruntime backend: ONNX Runtime with its CPU, CUDA or TensorRT provider."""

from hoirt.backends.onnxruntime.backend import Backend, TensorrtProvider

__all__ = ["Backend", "TensorrtProvider"]
