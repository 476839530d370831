"""Reads the weights that users have: base models, ControlNets and LoRAs of every published layout, lazily."""

from .base import BaseModel, check_pair, read_base
from .controlnet import read_controlnet
from .errors import CheckpointError
from .files import open_tensors
from .lazy import Component, LazyTensor, TensorInfo, Weights, WeightSource
from .lora import with_lora
from .modules import check, empty_module

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
