"""ControlNets in all three layouts: `control_model.*`, bare CompVis keys, diffusers (folder or file)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from . import ldm_configs
from .base import BaseModel, check_pair
from .errors import CheckpointError, listed
from .files import open_tensors
from .folder import plain_names, read_component
from .lazy import Component, Tensors
from .ldm_names import unet_names
from .matching import match
from .mistakes import name_content

PREFIX = "control_model."
_NOT_IN_SHAPES = ("attention_head_dim", "num_attention_heads", "addition_time_embed_dim")


def read_controlnet(path: Path, base: BaseModel | None = None) -> Component:
    """The ControlNet in a diffusers folder or in a file of any layout; a whole model may be around it.

    base: the model that it will steer; checked to be of the same family. What the shapes in a file do not
    tell (heads, the width of SDXL's embedded sizes) is then the base model's, else as published.
    Raises CheckpointError: not a ControlNet (and what it is instead), keys or shapes do not fit, not three
    channels of the hint, another base family.
    """
    path = Path(path)
    component = _folder(path) if path.is_dir() else _file(path)
    order = component.config.get("controlnet_conditioning_channel_order", "rgb")
    channels = component.config.get("conditioning_channels", 3), component.config.get("in_channels", 4)
    if channels != (3, 4) or order not in ("rgb", "bgr"):
        raise CheckpointError(
            f"{path}: a ControlNet with {channels[0]} channels of the picture in {order} order and "
            f"{channels[1]} of the latents; 3 in rgb or bgr order and 4 are supported"
        )
    if base is None:
        return component
    check_pair(base, component)
    if path.is_dir():
        return component
    facts = {key: base.unet.config[key] for key in _NOT_IN_SHAPES if key in base.unet.config}
    return replace(component, config={**component.config, **facts})


def _folder(path: Path) -> Component:
    if not (path / "config.json").exists():
        inner = [sub.name for sub in sorted(path.iterdir()) if (sub / "config.json").exists()]
        if inner == ["controlnet"] or "controlnet" in inner:
            path = path / "controlnet"
        else:
            what = f"it holds {listed(inner)}: a base model" if "unet" in inner else "it has no config.json"
            raise CheckpointError(f"{path}: not a ControlNet folder of diffusers: {what}")
    return read_component(path, ("ControlNetModel",), "ControlNet")


def _file(path: Path) -> Component:
    tensors = open_tensors(path)
    if any(name.startswith(PREFIX) for name in tensors):
        return _ldm(tensors, PREFIX, path)
    if "input_hint_block.0.weight" in tensors:
        return _ldm(tensors, "", path)
    if "controlnet_cond_embedding.conv_in.weight" in tensors:
        return _diffusers(tensors, path)
    kind = name_content(tensors) or "none of the known kinds of weights"
    hint = "; give it as the base model (--base)" if kind == "a base model" else ""
    raise CheckpointError(
        f"{path}: not a ControlNet but {kind}{hint}. A ControlNet has keys such as "
        f"control_model.input_hint_block.*, input_hint_block.* or controlnet_cond_embedding.*; this file has "
        f"{listed(tensors)}"
    )


def _ldm(tensors: Tensors, prefix: str, path: Path) -> Component:
    config = ldm_configs.controlnet_config(tensors, prefix, path)
    name = unet_names(config)
    return match(tensors, config, lambda key: ([name(key)], None), [path], prefix, "ControlNet")


def _diffusers(tensors: Tensors, path: Path) -> Component:
    """A file with diffusers' keys and no config: its shapes tell, under the names of the CompVis layout."""
    layers = sum(f"down_blocks.0.resnets.{i}.conv1.weight" in tensors for i in range(len(tensors)))
    hints = sum(f"controlnet_cond_embedding.blocks.{i}.weight" in tensors for i in range(len(tensors)))
    name = unet_names(
        {"layers_per_block": layers, "conditioning_embedding_out_channels": (0,) * (hints // 2 + 1)}
    )
    config = ldm_configs.controlnet_config({name(key): tensors[key] for key in tensors}, "", path)
    return match(tensors, config, plain_names, [path], label="ControlNet")
