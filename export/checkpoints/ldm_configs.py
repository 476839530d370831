"""Configs of the diffusers and transformers classes, from the shapes in a file of the CompVis layout.

What shapes do not tell comes from `configs`: SD 1 has 8 heads at every level, SDXL and CLIP have heads of 64
channels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import configs
from .errors import CheckpointError
from .lazy import Tensors

HEAD = 64


class _Shapes:
    """Shapes of the tensors under a prefix; a missing one is an error that says which network lacks it."""

    def __init__(self, tensors: Tensors, prefix: str, what: str, path: Path) -> None:
        self.shapes = {k.removeprefix(prefix): t.shape for k, t in tensors.items() if k.startswith(prefix)}
        self.what, self.path, self.prefix = what, path, prefix

    def __call__(self, key: str, axes: int | None = None) -> tuple[int, ...]:
        shape = self.shapes.get(key)
        if shape is None or len(shape) == 0 or (axes is not None and len(shape) != axes):
            found = "is missing" if shape is None else f"has the shape {tuple(shape)}"
            raise CheckpointError(f"{self.path}: {self.what} is incomplete: {self.prefix}{key} {found}")
        return shape

    def count(self, pattern: str) -> int:
        """How many different first groups of the pattern occur at the beginnings of keys."""
        return len({match[1] for key in self.shapes if (match := re.match(pattern, key))})


def unet_config(tensors: Tensors, prefix: str, path: Path) -> dict[str, Any]:
    """The config of the UNet, of either family."""
    shapes = _Shapes(tensors, prefix, "the UNet", path)
    config = _encoder_config(shapes, configs.SD15, configs.SDXL)
    config["out_channels"] = shapes("out.2.weight", 4)[0]
    attends = [name.startswith("CrossAttn") for name in config["down_block_types"]]
    config["up_block_types"] = tuple(
        "CrossAttnUpBlock2D" if attention else "UpBlock2D" for attention in reversed(attends)
    )
    return config


def controlnet_config(tensors: Tensors, prefix: str, path: Path) -> dict[str, Any]:
    """The config of the ControlNet, of either family."""
    shapes = _Shapes(tensors, prefix, "the ControlNet", path)
    config = _encoder_config(shapes, configs.CONTROLNET_SD15, configs.CONTROLNET_SDXL)
    first = shapes("input_hint_block.0.weight", 4)
    # Convolutions are every second layer: the first, then a pair per width but the last, then the last one.
    layers = shapes.count(r"input_hint_block\.(\d+)\.weight")
    widths = [shapes(f"input_hint_block.{4 * i}.weight", 4)[0] for i in range(layers // 2)]
    config["conditioning_channels"] = first[1]
    config["conditioning_embedding_out_channels"] = tuple(widths)
    return config


def _encoder_config(shapes: _Shapes, sd15: configs.Config, sdxl: configs.Config) -> dict[str, Any]:
    """What UNet and ControlNet share: the blocks down to the middle."""
    width, channels = shapes("input_blocks.0.0.weight", 4)[:2]
    blocks = shapes.count(r"input_blocks\.(\d+)\.")
    downs = [i for i in range(1, blocks) if f"input_blocks.{i}.0.op.weight" in shapes.shapes]
    layers = (downs[0] if downs else blocks) - 1
    levels = len(downs) + 1
    if (
        layers < 1
        or blocks != levels * (layers + 1)
        or downs != [(level + 1) * (layers + 1) for level in range(levels - 1)]
    ):
        raise CheckpointError(f"{shapes.path}: {shapes.what} has an unknown arrangement of input_blocks")
    firsts = [1 + level * (layers + 1) for level in range(levels)]
    depths = [shapes.count(rf"input_blocks\.{i}\.1\.transformer_blocks\.(\d+)\.") for i in firsts]
    middle = shapes.count(r"middle_block\.1\.transformer_blocks\.(\d+)\.")
    attention = next((i for i, depth in zip(firsts, depths, strict=True) if depth), None)
    if attention is None or middle == 0 or depths[-1] not in (0, middle):
        raise CheckpointError(
            f"{shapes.path}: {shapes.what} has {depths} transformer layers per level and {middle} in the "
            "middle; only Stable Diffusion 1.5 and SDXL are supported"
        )
    key = f"input_blocks.{attention}.1.transformer_blocks.0.attn2.to_k.weight"
    widths = tuple(shapes(f"input_blocks.{i}.0.out_layers.3.weight", 4)[0] for i in firsts)
    is_xl = "label_emb.0.0.weight" in shapes.shapes
    facts = sdxl if is_xl else sd15
    depth_of = tuple(max(1, depth) for depth in depths)
    if depths[-1] == 0:
        depth_of = (*depth_of[:-1], middle)  # diffusers takes the middle's depth from the last level
    config: dict[str, Any] = {
        **facts,
        "in_channels": channels,
        "block_out_channels": widths,
        "down_block_types": tuple("CrossAttnDownBlock2D" if d else "DownBlock2D" for d in depths),
        "layers_per_block": layers,
        "cross_attention_dim": shapes(key, 2)[1],
        "transformer_layers_per_block": depth_of if len(set(depth_of)) > 1 else depth_of[0],
        "use_linear_projection": len(shapes(f"input_blocks.{attention}.1.proj_in.weight")) == 2,
    }
    if width != widths[0]:
        raise CheckpointError(f"{shapes.path}: {shapes.what} begins with {width} channels, not {widths[0]}")
    if is_xl:
        config["attention_head_dim"] = tuple(max(1, n // HEAD) for n in widths)
        config["projection_class_embeddings_input_dim"] = shapes("label_emb.0.0.weight", 2)[1]
    return config


def with_pooled(config: Mapping[str, Any], pooled: int, path: Path) -> dict[str, Any]:
    """The SDXL config with the width of the embedded sizes: what the pooled text leaves, for six numbers."""
    total = int(config["projection_class_embeddings_input_dim"])
    if total <= pooled or (total - pooled) % 6:
        raise CheckpointError(
            f"{path}: the UNet takes {total} numbers of size and text, which does not fit the {pooled} of "
            "the second text encoder"
        )
    return {**config, "addition_time_embed_dim": (total - pooled) // 6}


def vae_config(tensors: Tensors, prefix: str, is_xl: bool, path: Path) -> dict[str, Any]:
    shapes = _Shapes(tensors, prefix, "the VAE", path)
    levels = shapes.count(r"encoder\.down\.(\d+)\.")
    if levels == 0:
        raise CheckpointError(f"{path}: the VAE is incomplete: no {prefix}encoder.down.0")
    widths = [shapes(f"encoder.down.{i}.block.0.conv2.weight", 4)[0] for i in range(levels)]
    return {
        **(configs.VAE_SDXL if is_xl else configs.VAE),
        "in_channels": shapes("encoder.conv_in.weight", 4)[1],
        "out_channels": shapes("decoder.conv_out.weight", 4)[0],
        "latent_channels": shapes("decoder.conv_in.weight", 4)[1],
        "block_out_channels": tuple(widths),
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "layers_per_block": shapes.count(r"encoder\.down\.0\.block\.(\d+)\."),
    }


def clip_config(tensors: Tensors, prefix: str, path: Path) -> dict[str, Any]:
    """CLIP as transformers stores it, `prefix` up to and with "text_model."."""
    shapes = _Shapes(tensors, prefix, "the text encoder", path)
    vocabulary, width = shapes("embeddings.token_embedding.weight", 2)
    return _text_config(
        configs.CLIP_L,
        vocabulary,
        width,
        positions=shapes("embeddings.position_embedding.weight", 2)[0],
        layers=shapes.count(r"encoder\.layers\.(\d+)\."),
        inner=shapes("encoder.layers.0.mlp.fc1.weight", 2)[0],
        projection=width,
    )


def open_clip_config(tensors: Tensors, prefix: str, path: Path) -> dict[str, Any]:
    """CLIP as OpenCLIP stores it: SDXL's second text encoder."""
    shapes = _Shapes(tensors, prefix, "the second text encoder", path)
    vocabulary, width = shapes("token_embedding.weight", 2)
    return _text_config(
        configs.CLIP_BIGG,
        vocabulary,
        width,
        positions=shapes("positional_embedding", 2)[0],
        layers=shapes.count(r"transformer\.resblocks\.(\d+)\."),
        inner=shapes("transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
        projection=shapes("text_projection", 2)[1],
    )


def _text_config(
    facts: configs.Config,
    vocabulary: int,
    width: int,
    *,
    positions: int,
    layers: int,
    inner: int,
    projection: int,
) -> dict[str, Any]:
    return {
        **facts,
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": inner,
        "projection_dim": projection,
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, width // HEAD),
        "max_position_embeddings": positions,
        "bos_token_id": vocabulary - 2,  # CLIP's vocabulary ends with start and end
        "eos_token_id": vocabulary - 1,
    }
