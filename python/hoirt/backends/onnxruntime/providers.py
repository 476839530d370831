"""The options of the execution providers, all of them written out.

Names and values are those of onnxruntime 1.31's CUDA and TensorRT providers.
"""

from __future__ import annotations

from pathlib import Path

Provider = str | tuple[str, dict[str, str]]
TIMING = "onnxruntime-tensorrt-timing"  # one folder for all networks: timings belong to layers


def providers_for(
    provider: str, *, index: int, stream: int, precision: str, engines: Path | None
) -> list[Provider]:
    """What InferenceSession takes as `providers`, the preferred one first.

    Args:
        provider: "cpu", "cuda" or "tensorrt". index: of the CUDA device. stream: a cudaStream_t, on which
            the session then works. precision: "fp32", "fp16" or "bf16". engines: TensorRT's folder.
    """
    if provider == "cpu":
        return ["CPUExecutionProvider"]
    cuda: Provider = ("CUDAExecutionProvider", cuda_options(index, stream, precision))
    if provider == "cuda":
        return [cuda, "CPUExecutionProvider"]  # the CPU computes with shapes
    return [
        ("TensorrtExecutionProvider", tensorrt_options(index, stream, precision, engines)),
        cuda,
        "CPUExecutionProvider",
    ]


def cuda_options(index: int, stream: int, precision: str) -> dict[str, str]:
    """Of the CUDA provider."""
    return {
        "device_id": str(index),
        "user_compute_stream": str(stream),
        "do_copy_in_default_stream": "1",
        # Exactly what is asked for: the loop's and the other networks' memory comes out of the same device.
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "cudnn_conv_use_max_workspace": "1",
        "use_tf32": "0",  # fp32 is what was asked for, and halves do not use it
        "prefer_nhwc": "1" if precision == "fp16" else "0",  # the tensor cores' layout
    }


def tensorrt_options(index: int, stream: int, precision: str, engines: Path | None) -> dict[str, str]:
    """Of the TensorRT provider."""
    options = {
        "device_id": str(index),
        "user_compute_stream": str(stream),
        "trt_fp16_enable": str(int(precision == "fp16")),
        "trt_bf16_enable": str(int(precision == "bf16")),
        "trt_layer_norm_fp32_fallback": "1",
        "trt_builder_optimization_level": "3",
        "trt_context_memory_sharing_enable": "1",
        "trt_engine_cache_enable": str(int(engines is not None)),
        "trt_timing_cache_enable": str(int(engines is not None)),
    }
    if engines is not None:
        options["trt_engine_cache_path"] = str(engines)
        options["trt_timing_cache_path"] = str(engines.parent / TIMING)
    return options
