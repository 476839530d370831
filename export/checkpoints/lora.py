"""LoRA files, added to a base model's weights when these are read: W + scale * alpha / rank * up @ down.

Hu et al., LoRA (2021), equation 3; alpha as in the files of kohya-ss and of peft. Layouts: kohya's
`lora_unet_*.lora_down` with diffusers' or CompVis' block names, peft's `unet.*.lora_A`, and both older ones
of diffusers (`*.lora.down`, `*.processor.to_q_lora.down`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .base import BaseModel
from .errors import CheckpointError, listed
from .files import open_with_metadata
from .lazy import Component, LazyTensor, TensorInfo, Tensors, WeightSource
from .ldm_names import unet_names
from .mistakes import name_content

_PARTS = {"down": "down", "up": "up", "A": "down", "B": "up"}
_KEYS = (
    re.compile(r"(?P<module>.+)\.lora_(?P<part>down|up)\.weight"),
    re.compile(r"(?P<module>.+)\.lora_(?P<part>A|B)(\.[A-Za-z0-9_]+)?\.weight"),
    re.compile(r"(?P<module>.+)\.processor\.(?P<leaf>to_[qkv]|to_out)_lora\.(?P<part>down|up)\.weight"),
    re.compile(r"(?P<module>.+)\.(lora|lora_linear_layer)\.(?P<part>down|up)\.weight"),
)
_OTHER_KINDS = {
    "hada_w1_a": "a LoHa",
    "lokr_w1": "a LoKr",
    "dora_scale": "a DoRA",
    "lora_magnitude_vector": "a DoRA",
    "lora_mid": "a LoRA with Tucker decomposition",
    "oft_blocks": "an OFT",
    "oft_diag": "an OFT",
}


@dataclass(frozen=True)
class Update:
    """One layer's change, `factor` times up (out,r) or (out,r,1,1) @ down (r,in) or (r,in,k,k)."""

    down: LazyTensor
    up: LazyTensor
    factor: float

    def added_to(self, weight: Tensor) -> Tensor:
        """weight (out,in[,k,k]) plus the change, summed in float32, in the dtype of `weight`."""
        change = self.up.read().float().flatten(1) @ self.down.read().float().flatten(1)
        total = weight.float() + self.factor * change.reshape(weight.shape)
        if not bool(torch.isfinite(total).all()):
            raise CheckpointError("the LoRA makes weights that are not finite; is its scale right?")
        return total.to(weight.dtype)


@dataclass(frozen=True)
class Fused:
    """A `WeightSource` with updates that are added when a weight is read."""

    base: WeightSource
    updates: Mapping[str, Update]

    def infos(self) -> Mapping[str, TensorInfo]:
        return self.base.infos()

    def read(self, key: str) -> Tensor:
        weight = self.base.read(key)
        return self.updates[key].added_to(weight) if key in self.updates else weight


def with_lora(base: BaseModel, lora: Path, scale: float = 1.0) -> BaseModel:
    """The model with a LoRA file fused at `scale` (finite; 1 as trained, 0 none, negative the opposite).

    Raises CheckpointError: no LoRA, one of another kind or for another base model; lists what matches
    nothing.
    """
    lora = Path(lora)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not math.isfinite(scale):
        raise CheckpointError(f"the scale of a LoRA must be a finite number, got {scale!r}")
    tensors, metadata = open_with_metadata(lora)
    components = base.components
    updates = _updates(tensors, _alphas(metadata, lora), components, float(scale), lora)
    fused: dict[str, Any] = {
        name: replace(
            component, weights=Fused(component.weights, updates[name]), files=(*component.files, lora)
        )
        for name, component in components.items()
        if updates[name]
    }
    return replace(base, **fused)


def _updates(
    tensors: Tensors,
    alphas: Mapping[str, float],
    components: Mapping[str, Component],
    scale: float,
    path: Path,
) -> dict[str, dict[str, Update]]:
    pairs = _pairs(tensors, path)
    index = _index(components)
    found: dict[str, dict[str, Update]] = {name: {} for name in components}
    strange, wrong = [], []
    for module, parts in pairs.items():
        if module not in index:
            strange.append(module)
            continue
        component, key = index[module]
        down, up = parts["down"], parts["up"]
        shape = components[component].weights.infos()[key].shape
        if not _fits(down.shape, up.shape, shape):
            wrong.append(f"{module} (up {list(up.shape)}, down {list(down.shape)}) for {list(shape)}")
            continue
        rank = down.shape[0]
        alpha = _alpha(tensors.get(f"{module}.alpha"), module, path)
        if alpha is None:
            alpha = alphas.get(component, rank)
        found[component][key] = Update(down, up, scale * alpha / rank)
    if strange or wrong:
        parts_of = [
            f"{len(strange)} of {len(pairs)} layers are not in the base model: {listed(strange)}"
            if strange
            else "",
            f"{len(wrong)} have wrong shapes: {listed(wrong)}" if wrong else "",
        ]
        raise CheckpointError(
            f"{path}: {'; '.join(part for part in parts_of if part)}. It looks like a LoRA for another base "
            "model (Stable Diffusion 1.5, SDXL and others have their own)"
        )
    return found


def _pairs(tensors: Tensors, path: Path) -> dict[str, dict[str, LazyTensor]]:
    """Layer name in the file -> its "down" and "up"; every key must belong to one."""
    pairs: dict[str, dict[str, LazyTensor]] = {}
    strange = []
    for key, tensor in tensors.items():
        for sign, kind in _OTHER_KINDS.items():
            if f".{sign}" in key:
                raise CheckpointError(f"{path}: {kind} ({key[:120]}); plain LoRAs are supported")
        match = next((m for pattern in _KEYS if (m := pattern.fullmatch(key))), None)
        if match is not None:
            module = match["module"]
            if leaf := match.groupdict().get("leaf"):
                module += f".{leaf}" + (".0" if leaf == "to_out" else "")
            pairs.setdefault(module, {})[_PARTS[match["part"]]] = tensor
        elif not key.endswith(".alpha"):
            strange.append(key)
    strange += [key for key in tensors if key.endswith(".alpha") and key.removesuffix(".alpha") not in pairs]
    if not pairs:
        kind = name_content(tensors) or "none of the known kinds of weights"
        raise CheckpointError(f"{path}: not a LoRA but {kind}; it has {listed(tensors)}")
    halves = [module for module, parts in pairs.items() if len(parts) != 2]
    if strange or halves:
        raise CheckpointError(
            f"{path}: not a whole LoRA: "
            + (f"{len(strange)} keys are unexpected: {listed(strange)} " if strange else "")
            + (f"{len(halves)} layers lack their up or down: {listed(halves)}" if halves else "")
        )
    return pairs


def _index(components: Mapping[str, Component]) -> dict[str, tuple[str, str]]:
    """Every spelling of a layer's name in LoRA files -> (component, key of its weight)."""
    index: dict[str, tuple[str, str]] = {}
    ldm = unet_names(components["unet"].config)
    for name, component in components.items():
        for key in component.weights.infos():
            if not key.endswith(".weight"):
                continue
            layer = key.removesuffix(".weight")
            for spelling in _spellings(name, layer, ldm(key).removesuffix(".weight")):
                index[spelling] = (name, key)
    return index


def _spellings(component: str, layer: str, ldm_layer: str) -> Iterable[str]:
    if component == "unet":
        yield layer
        yield f"unet.{layer}"
        for spelled in (layer, ldm_layer):
            yield "lora_unet_" + spelled.replace(".", "_")
        return
    layer = "text_model." + layer.removeprefix("text_model.")
    number = "2" if component == "text_encoder_2" else "1"
    yield f"{component}.{layer}"
    yield f"lora_te{number}_" + layer.replace(".", "_")
    if number == "1":
        yield "lora_te_" + layer.replace(".", "_")


def _fits(down: tuple[int, ...], up: tuple[int, ...], weight: tuple[int, ...]) -> bool:
    return (
        len(down) >= 2
        and len(up) >= 2
        and up[0] == weight[0]
        and 0 < up[1] == down[0]
        and math.prod(up[2:]) == 1
        and math.prod(down[1:]) == math.prod(weight[1:])
        and down[1] == weight[1]
    )


def _alpha(tensor: LazyTensor | None, module: str, path: Path) -> float | None:
    if tensor is None:
        return None
    value = float(tensor.read()) if math.prod(tensor.shape) == 1 else math.nan
    if not math.isfinite(value):
        raise CheckpointError(f"{path}: {module}.alpha is not a finite number")
    return value


def _alphas(metadata: Mapping[str, str], path: Path) -> dict[str, float]:
    """By component: alpha in the settings that diffusers writes beside peft's keys; they have none else."""
    text = metadata.get("lora_adapter_metadata")
    if text is None:
        return {}
    try:
        settings = json.loads(text)
        items = dict(settings)
    except (ValueError, TypeError, RecursionError):
        raise CheckpointError(f"{path}: lora_adapter_metadata is not a JSON object") from None
    for key, value in items.items():
        if key.endswith((".use_dora", ".use_rslora", ".alpha_pattern", ".rank_pattern")) and value:
            raise CheckpointError(f"{path}: a LoRA with {ascii(key)[1:81]}, which is not supported")
    alphas = {k.removesuffix(".lora_alpha"): v for k, v in items.items() if k.endswith(".lora_alpha")}
    if not all(type(v) in (int, float) and math.isfinite(v) for v in alphas.values()):
        raise CheckpointError(f"{path}: a lora_alpha of its metadata is not a finite number")
    return {name: float(value) for name, value in alphas.items()}
