"""Writes files of safetensors and of torch.save, one tensor in memory at a time."""

from __future__ import annotations

import json
import math
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_CODES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
}


@dataclass(frozen=True)
class Entry:
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]


def _raw(entry: Entry) -> Any:
    value = entry.read().to(entry.dtype).contiguous()
    assert tuple(value.shape) == entry.shape, entry.name
    return value.reshape(-1).view(torch.uint8).numpy().data


def write_safetensors(
    path: Path,
    entries: Iterable[Entry],
    metadata: Mapping[str, str] | None = None,
    *,
    hollow: bool = False,
) -> Path:
    """The header first, from the shapes; then one tensor after another.

    hollow: zeros that take no room on the disk instead of the tensors, to look at large files' names.
    """
    entries, header, at = list(entries), dict[str, Any](), 0
    if metadata:
        header["__metadata__"] = dict(metadata)
    for entry in entries:
        size = math.prod(entry.shape) * entry.dtype.itemsize
        header[entry.name] = {
            "dtype": _CODES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [at, at + size],
        }
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        if hollow:
            file.truncate(8 + len(text) + at)
            return path
        for entry in entries:
            file.write(_raw(entry))
    return path


def write_torch(
    path: Path,
    entries: Iterable[Entry],
    wrap: Callable[[dict[str, Tensor]], Any] = lambda state: {"state_dict": state},
) -> Path:
    """A file of torch.save: written with gaps for the data first, then filled one tensor after another."""
    entries = list(entries)
    # Memory that nobody touches: it takes addresses and no pages.
    state = {entry.name: torch.empty(entry.shape, dtype=entry.dtype) for entry in entries}
    content = wrap(state)
    with torch.serialization.skip_data():
        torch.save(content, path)
    written = torch.load(path, map_location="meta", weights_only=False)  # our own file
    state = written.get("state_dict", written)
    with path.open("r+b") as file:
        for entry in entries:
            file.seek(state[entry.name].untyped_storage()._checkpoint_offset)
            file.write(_raw(entry))
    return path


def lightning(optimiser_of: Iterable[str] = ()) -> Callable[[dict[str, Tensor]], Any]:
    """A whole training checkpoint of Lightning 1.4: counters, optimiser states, a class as a key."""

    def wrap(state: dict[str, Tensor]) -> Any:
        moments = [torch.empty_like(state[name]) for name in optimiser_of]
        return {
            "epoch": 3,
            "global_step": 2307,
            "pytorch-lightning_version": "1.4.2",
            "state_dict": state,
            "callbacks": {_trainer_class(): {"monitor": None, "best_model_path": ""}},
            "optimizer_states": [
                {
                    "state": {
                        i: {"step": 2307, "exp_avg": m, "exp_avg_sq": m} for i, m in enumerate(moments)
                    },
                    "param_groups": [
                        {"lr": 1e-5, "betas": (0.9, 0.999), "params": list(range(len(moments)))}
                    ],
                }
            ],
            "lr_schedulers": [],
        }

    return wrap


def _trainer_class() -> type:
    """pytorch_lightning's ModelCheckpoint by name; the published files have it as a key."""
    name = "pytorch_lightning.callbacks.model_checkpoint"
    if name not in sys.modules:
        for part in ("pytorch_lightning", "pytorch_lightning.callbacks", name):
            sys.modules.setdefault(part, types.ModuleType(part))
        sys.modules[name].ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": name})  # type: ignore[attr-defined]
    return sys.modules[name].ModelCheckpoint  # type: ignore[no-any-return, attr-defined]
