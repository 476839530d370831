"""The peer: a pack's networks in torch, run by the diffusers pipeline class, unchanged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

import diffusers
import torch
from diffusers import StableDiffusionControlNetInpaintPipeline
from hoirt.packs import Pack
from torch import Tensor
from transformers import CLIPTokenizer

from bench.onnx_weights import OnnxWeights, fill

Pipeline: TypeAlias = Any  # a StableDiffusionControlNetInpaintPipeline; diffusers is not typed
HINT = "controlnet_cond_embedding"


def _tiny(tokenizer: CLIPTokenizer) -> dict[str, Any]:
    from export.tiny import models

    unet = models.make_unet()
    ids = {name: getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    return {
        "unet": unet,
        "controlnet": models.make_controlnet(unet),
        "vae": models.make_vae(),
        "text_encoder": models.make_text_encoder(len(tokenizer), **ids),
    }


def _random(tokenizer: CLIPTokenizer) -> dict[str, Any]:
    from export.tiny.random_pack import make_modules

    modules = make_modules(seed=12345)  # not the pack's own weights: what is not filled shall differ
    return {name: modules[name] for name in ("unet", "controlnet", "vae", "text_encoder")}


# A pack does not tell the torch classes it was made from; these are the functions that made them.
CLASSES = {"handrefiner-tiny": _tiny, "random": _random}


def make_modules(pack: Pack) -> dict[str, Any]:
    """unet, controlnet, vae, text_encoder as the diffusers and transformers classes, and the tokenizer."""
    if pack.name not in CLASSES:
        raise ValueError(
            f"the torch classes of the pack {pack.name} are not known, only of {', '.join(CLASSES)}"
        )
    tokenizer = _tokenizer(pack)
    modules = CLASSES[pack.name](tokenizer)
    roles = ("hint", "text_encoder", "vae_encoder", "vae_decoder")
    weights = {role: OnnxWeights(pack.network_file(role)) for role in roles}
    controlnet, vae = modules["controlnet"], modules["vae"]
    step = OnnxWeights(*(pack.network_file(role) for role in ("step", "time", "context")))
    fill(modules["unet"], step, "unet")
    fill(controlnet, step, "controlnet", skip=HINT)
    fill(getattr(controlnet, HINT), weights["hint"], "embedding")
    fill(modules["text_encoder"], weights["text_encoder"], "text_encoder")
    for role, names in (
        ("vae_encoder", ("encoder", "quant_conv")),
        ("vae_decoder", ("decoder", "post_quant_conv")),
    ):
        for name in names:
            fill(getattr(vae, name), weights[role], name)
    vae.register_to_config(scaling_factor=pack.settings.vae.scaling_factor)
    for module in modules.values():
        module.eval().requires_grad_(False)
    return {**modules, "tokenizer": tokenizer}


def make_pipeline(pack: Pack, precision: str = "fp32") -> Pipeline:
    """The pipeline, fp32 or bf16, with the pack's scheduler, without safety checker and progress bar."""
    config = dict(pack.manifest.scheduler)
    pipeline: Pipeline = StableDiffusionControlNetInpaintPipeline(
        **make_modules(pack),
        scheduler=getattr(diffusers, config["_class_name"]).from_config(config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(dtype={"fp32": torch.float32, "bf16": torch.bfloat16}[precision])


def predict(pipeline: Pipeline, inputs: Mapping[str, Tensor], depth: Tensor) -> Tensor:
    """The networks of one step of the pipeline: ControlNet, its picture's embedding included, then UNet.

    inputs: sample, inpaint and control_scale of the pack's step network, encoder_hidden_states (N, T, D) and
    timestep (N,); depth (N, 3, H, W) in 0..1. -> (N, 4, h, w)
    """
    text, time = inputs["encoder_hidden_states"], inputs["timestep"]
    down, mid = pipeline.controlnet(
        inputs["sample"],
        time,
        text,
        depth,
        conditioning_scale=float(inputs["control_scale"][0]),
        return_dict=False,
    )
    prediction: Tensor = pipeline.unet(
        torch.cat([inputs["sample"], inputs["inpaint"]], dim=1),
        time,
        text,
        down_block_additional_residuals=down,
        mid_block_additional_residual=mid,
        return_dict=False,
    )[0]
    return prediction


def _tokenizer(pack: Pack) -> CLIPTokenizer:
    model = json.loads(pack.tokenizer_file().read_text(encoding="utf-8"))["model"]
    merges: Any = [tuple(pair) for pair in model["merges"]]
    return CLIPTokenizer(
        vocab=model["vocab"],
        merges=merges,
        model_max_length=pack.manifest.tokenizer.max_length,
    )
