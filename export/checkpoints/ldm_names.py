"""Names of weights in the layout of CompVis' latent diffusion, for the keys of the diffusers classes.

Sources: the keys of the published files; every name is checked against the conversions of diffusers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Names = Callable[[str], str]

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET = {
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "controlnet_mid_block": "middle_block_out.0",
    "controlnet_cond_embedding.conv_in": "input_hint_block.0",
}
_BLOCK = re.compile(
    r"(down_blocks|mid_block|up_blocks)\.(?:(\d+)\.)?(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)"
)


def unet_names(config: Mapping[str, Any]) -> Names:
    """Names of a UNet2DConditionModel's or a ControlNetModel's weights, without the prefix of the network."""
    per_block = int(config["layers_per_block"]) + 1
    attends = [name.startswith("CrossAttn") for name in config.get("up_block_types", ())]
    hint_layers = 2 * (len(config.get("conditioning_embedding_out_channels", (0,))) - 1)

    def block(match: re.Match[str]) -> str:
        side, where, kind, number, rest = match.groups()
        level, layer = int(where or 0), int(number)
        if kind == "resnets":
            part, _, leaf = rest.partition(".")
            rest = f"{_RESNET[part]}.{leaf}"
        if side == "mid_block":
            return f"middle_block.{2 * layer if kind == 'resnets' else 1}.{rest}"
        if kind == "downsamplers":
            return f"input_blocks.{(level + 1) * per_block}.0.op.{rest.removeprefix('conv.')}"
        if kind == "upsamplers":
            place = 2 if attends[level] else 1
            return f"output_blocks.{level * per_block + per_block - 1}.{place}.{rest}"
        place = 0 if kind == "resnets" else 1
        if side == "down_blocks":
            return f"input_blocks.{1 + level * per_block + layer}.{place}.{rest}"
        return f"output_blocks.{level * per_block + layer}.{place}.{rest}"

    def name(key: str) -> str:
        if match := _BLOCK.fullmatch(key):
            return block(match)
        stem, _, leaf = key.rpartition(".")
        if stem in _UNET:
            return f"{_UNET[stem]}.{leaf}"
        if match := re.fullmatch(r"controlnet_down_blocks\.(\d+)", stem):
            return f"zero_convs.{match[1]}.0.{leaf}"
        if match := re.fullmatch(r"controlnet_cond_embedding\.blocks\.(\d+)", stem):
            return f"input_hint_block.{2 * int(match[1]) + 2}.{leaf}"
        if stem == "controlnet_cond_embedding.conv_out":
            return f"input_hint_block.{2 * hint_layers + 2}.{leaf}"
        return key

    return name


_VAE = (
    (r"mid_block\.resnets\.0\.", "mid.block_1."),
    (r"mid_block\.resnets\.1\.", "mid.block_2."),
    (r"mid_block\.attentions\.0\.group_norm\.", "mid.attn_1.norm."),
    (r"mid_block\.attentions\.0\.to_([qkv])\.", r"mid.attn_1.\1."),
    (r"mid_block\.attentions\.0\.to_out\.0\.", "mid.attn_1.proj_out."),
    (r"down_blocks\.(\d+)\.resnets\.", r"down.\1.block."),
    (r"down_blocks\.(\d+)\.downsamplers\.0\.", r"down.\1.downsample."),
    (r"conv_norm_out\.", "norm_out."),
    (r"conv_shortcut\.", "nin_shortcut."),
)


def vae_names(config: Mapping[str, Any]) -> Names:
    """Names of an AutoencoderKL's weights, without the prefix; the decoder counts its levels backwards."""
    last = len(config["block_out_channels"]) - 1

    def name(key: str) -> str:
        def up(match: re.Match[str]) -> str:
            kind = "block." if match[2] == "resnets" else "upsample."
            return f"up.{last - int(match[1])}.{kind}"

        key = re.sub(r"up_blocks\.(\d+)\.(resnets|upsamplers)\.(?:(?<=upsamplers\.)0\.)?", up, key)
        for pattern, replacement in _VAE:
            key = re.sub(pattern, replacement, key)
        return key

    return name


_OPEN_CLIP = (
    ("embeddings.position_embedding.weight", "positional_embedding"),
    ("embeddings.token_embedding.", "token_embedding."),
    ("encoder.layers.", "transformer.resblocks."),
    ("final_layer_norm.", "ln_final."),
    ("layer_norm1.", "ln_1."),
    ("layer_norm2.", "ln_2."),
    ("mlp.fc1.", "mlp.c_fc."),
    ("mlp.fc2.", "mlp.c_proj."),
    ("self_attn.", "attn."),
    ("text_projection.weight", "text_projection"),
)


def open_clip_name(key: str) -> tuple[str, int | None]:
    """OpenCLIP's name of a CLIPTextModel key, and which third of the stacked projection it is (else None)."""
    key = key.removeprefix("text_model.")
    for ours, theirs in _OPEN_CLIP:
        key = key.replace(ours, theirs)
    if match := re.fullmatch(r"(.+\.attn\.)([qkv])_proj\.(weight|bias)", key):
        return f"{match[1]}in_proj_{match[3]}", "qkv".index(match[2])
    return key, None
