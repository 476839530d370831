"""Base models in one file of the CompVis layout: safetensors, or torch's .ckpt."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

from . import configs, ldm_configs
from .errors import CheckpointError, listed
from .lazy import Component, LazyTensor, Tensors
from .ldm_names import Names, open_clip_name, unet_names, vae_names
from .matching import match
from .mistakes import name_content

UNET = "model.diffusion_model."
VAES = ("first_stage_model.", "vae.")
TEXTS = ("cond_stage_model.transformer.text_model.", "cond_stage_model.transformer.")
SD2_TEXT = "cond_stage_model.model."
XL_TEXT = "conditioner.embedders.0.transformer.text_model."
XL_TEXT_2 = "conditioner.embedders.1.model."


class Networks(NamedTuple):
    """What one file holds, and the schedule that goes with it."""

    kind: Literal["sd15", "sdxl"]
    unet: Component
    vae: Component
    text_encoder: Component
    text_encoder_2: Component | None
    scheduler: dict[str, Any]


def read_single_file(tensors: Tensors, path: Path) -> Networks:
    """The networks of a base model. Raises CheckpointError: incomplete, of another family, no base model."""
    _require_base(tensors, path)
    config = ldm_configs.unet_config(tensors, UNET, path)
    is_xl = config.get("addition_embed_type") == "text_time"
    if is_xl:
        second = ldm_configs.open_clip_config(tensors, XL_TEXT_2, path)
        config = ldm_configs.with_pooled(config, second["projection_dim"], path)
        text_encoder_2 = _open_clip(tensors, second, path)
    else:
        text_encoder_2 = None
    vae = next(prefix for prefix in VAES if any(name.startswith(prefix) for name in tensors))
    vae_config = ldm_configs.vae_config(tensors, vae, is_xl, path)
    return Networks(
        "sdxl" if is_xl else "sd15",
        _renamed(tensors, UNET, config, unet_names(config), path, "UNet"),
        _renamed(tensors, vae, vae_config, vae_names(vae_config), path, "VAE"),
        _clip(tensors, XL_TEXT if is_xl else _text_prefix(tensors), path),
        text_encoder_2,
        _schedule(tensors),
    )


def notes(tensors: Tensors) -> list[str]:
    """What the file holds that is not used, in words for the user."""
    groups = {
        "model_ema.": "averaged weights (model_ema.*) are ignored; the plain ones are used",
        "control_model.": "a ControlNet (control_model.*) is in the file; give it as the ControlNet too",
    }
    return [text for prefix, text in groups.items() if any(name.startswith(prefix) for name in tensors)]


def _require_base(tensors: Tensors, path: Path) -> None:
    def has(*prefixes: str) -> bool:
        return any(name.startswith(prefixes) for name in tensors)

    if not has(UNET + "input_blocks."):
        kind = name_content(tensors) or "none of the known kinds of weights"
        raise CheckpointError(
            f"{path}: not a base model but {kind}{_advice(kind)}. A base model in one file has keys such as "
            f"{UNET}input_blocks.*; this file has {listed(tensors)}"
        )
    if has(SD2_TEXT):
        raise CheckpointError(
            f"{path}: a Stable Diffusion 2 model (its text encoder is {SD2_TEXT}*); in one file only Stable "
            "Diffusion 1.5 and SDXL are supported"
        )
    if has("conditioner.embedders.0.model."):
        raise CheckpointError(f"{path}: the refiner of SDXL; the base model is needed")
    lacking = [
        what
        for what, prefixes in (
            ("the VAE (first_stage_model.*)", VAES),
            ("the text encoder (cond_stage_model.* or conditioner.*)", ("cond_stage_model.", "conditioner.")),
        )
        if not has(*prefixes)
    ]
    if lacking:
        raise CheckpointError(
            f"{path}: holds a UNet but lacks {' and '.join(lacking)}; take the full checkpoint, not a "
            "UNet alone"
        )


def _advice(kind: str) -> str:
    return {
        "a LoRA": "; give it with --lora and a base model with --base",
        "a ControlNet": "; give it with --controlnet and a base model with --base",
        "a file with a ControlNet in it": "; give it with --controlnet and a base model with --base",
        "a VAE alone": "; a base model has UNet and text encoder as well",
        "a text encoder alone": "; a base model has UNet and VAE as well",
        "a UNet": " in diffusers' keys; give the whole folder of diffusers instead",
        "the weights of MeshGraphormer": "; give it with --mesh",
    }.get(kind, "")


def _text_prefix(tensors: Tensors) -> str:
    """Some merges lost "text_model." in the names."""
    for prefix in TEXTS:
        if prefix + "embeddings.token_embedding.weight" in tensors:
            return prefix
    return TEXTS[0]


def _renamed(
    tensors: Tensors, prefix: str, config: dict[str, Any], name: Names, path: Path, label: str
) -> Component:
    return match(tensors, config, lambda key: ([name(key)], None), [path], prefix, label)


def _clip(tensors: Tensors, prefix: str, path: Path) -> Component:
    config = ldm_configs.clip_config(tensors, prefix, path)
    return match(
        tensors, config, lambda key: ([key.removeprefix("text_model.")], None), [path], prefix, "text encoder"
    )


def _open_clip(tensors: Tensors, config: dict[str, Any], path: Path) -> Component:
    width = config["hidden_size"]

    def find(key: str) -> Any:
        name, third = open_clip_name(key)
        if third is not None:
            return [name], lambda stacked: stacked.rows(third * width, (third + 1) * width)
        return [name], LazyTensor.transposed if name == "text_projection" else None

    return match(tensors, config, find, [path], XL_TEXT_2, "second text encoder")


def _schedule(tensors: Tensors) -> dict[str, Any]:
    """SD's noise schedule. Models for v-prediction say so by empty tensors named v_pred and ztsnr."""
    scheduler = dict(configs.SCHEDULER)
    if "v_pred" in tensors:
        scheduler["prediction_type"] = "v_prediction"
    if "ztsnr" in tensors:
        scheduler["rescale_betas_zero_snr"] = True
    return scheduler
