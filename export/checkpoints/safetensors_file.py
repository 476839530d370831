"""Safetensors files as lazy tensors."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from .errors import CheckpointError
from .lazy import LazyTensor, stored

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def read_safetensors(path: Path) -> tuple[dict[str, LazyTensor], dict[str, str]]:
    """The tensors of a safetensors file and its metadata. Raises CheckpointError."""
    try:
        with safe_open(path, framework="pt"):  # checks the header, the ranges and the length of the file
            pass
    except SafetensorError as error:
        raise CheckpointError(
            f"{path}: not a whole safetensors file ({error}); a download that was cut off looks like this, "
            "so compare its size with the published one"
        ) from None
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for key, entry in header.items():
        if entry["dtype"] not in _DTYPES:
            raise CheckpointError(f"{path}: {key} has the dtype {entry['dtype']}, which is not supported")
        start = 8 + length + entry["data_offsets"][0]
        tensors[key] = stored(path, start, _DTYPES[entry["dtype"]], tuple(entry["shape"]))
    return tensors, metadata
