"""Reads the weights that users have: base models, ControlNets and LoRAs of every published layout, lazily."""

from export.checkpoints.base import BaseModel, check_pair, read_base
from export.checkpoints.controlnet import read_controlnet
from export.checkpoints.errors import CheckpointError
from export.checkpoints.files import open_tensors
from export.checkpoints.lazy import Component, LazyTensor, TensorInfo, Weights, WeightSource
from export.checkpoints.lora import with_lora
from export.checkpoints.modules import check, empty_module

__all__ = [
    "BaseModel",
    "CheckpointError",
    "Component",
    "LazyTensor",
    "TensorInfo",
    "WeightSource",
    "Weights",
    "check",
    "check_pair",
    "empty_module",
    "open_tensors",
    "read_base",
    "read_controlnet",
    "with_lora",
]
