"""Builds a pack of the task hand-refine from torch modules, whatever their size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from diffusers import AutoencoderKL, ControlNetModel, SchedulerMixin, UNet2DConditionModel
from hoirt.packs import Pack
from hoirt.packs.manifest import check_settings
from safetensors.numpy import save
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from export import networks
from export.feature_reuse import export_feature_reuse
from export.loop_invariants import ContextGraph, TimeGraph
from export.onnx_export import Axes, Exporter, Storage, export_network
from export.pack_writer import describe_network, new_pack, write_manifest
from export.tokenizer import export_tokenizer

DEFAULT_SETTINGS: Mapping[str, Any] = {
    "crop": 128,
    "steps": 20,
    "guidance": 2.0,
    "strength": 0.55,
    "negative_prompt": "",
    "detector_threshold": 0.5,
    "box_scale": 1.3,
    "mask": {"pad": 0.06, "feather": 0.03},
    "precision": "fp32",
}
LATENT = {0: "N", 2: "h", 3: "w"}
PICTURE = {0: "N", 2: "H", 3: "W"}
BATCH = {0: "N"}
AXES: Mapping[str, Axes] = {
    "detector": dict.fromkeys(("image", "score", "center", "side", "left"), BATCH),
    "mesh": dict.fromkeys(("image", "vertices", "camera", "region"), BATCH),
    "text_encoder": {"input_ids": BATCH, "last_hidden_state": BATCH},
    "vae_encoder": {"image": PICTURE, "mean": LATENT, "logvar": LATENT},
    "vae_decoder": {"latents": LATENT, "image": PICTURE},
    "hint": {"depth": PICTURE, "hint": LATENT},
    "time": {"timestep": {0: "S"}, "time": {0: "S"}},
    "context": {"encoder_hidden_states": BATCH, "context": BATCH},
    "step": {
        "sample": LATENT,
        "time": BATCH,
        "context": BATCH,
        "hint": LATENT,
        "inpaint": LATENT,
        "control_scale": BATCH,
        "prediction": LATENT,
    },
}


def build_pack(
    *,
    out: Path,
    name: str,
    unet: UNet2DConditionModel,
    controlnet: ControlNetModel,
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    scheduler_config: Mapping[str, Any],
    detector: nn.Module | None = None,
    mesh: nn.Module | None = None,
    constants: Mapping[str, np.ndarray] | None = None,
    settings: Mapping[str, Any] | None = None,
    version: str = "1",
    description: str = "",
    licence: str = "",
    provenance: Mapping[str, Any] | None = None,
    storage: Storage = "fp32",
    exporter: Exporter = "trace",
    overwrite: bool = False,
    feature_reuse: bool = False,
) -> Path:
    """Writes the pack folder `out` atomically, verifies it in full and returns it.

    detector: image (N,3,192,192) -> (score, center, side, left); mesh: image (N,3,128,128) -> (vertices,
    camera) or (vertices, camera, region). constants: `faces` (F,3) int32 and `joint_regressor` (21,V)
    float32, needed with mesh.
    settings: overrides of DEFAULT_SETTINGS; the VAE's factor and scaling factor, the size multiple that the
    UNet wants and the storage are filled in here. The modules are put into eval mode and otherwise left
    alone. feature_reuse: writes the step's variants that keep and reuse features too (feature_reuse.py), a
    few graphs that share its weights.
    """
    tokens = export_tokenizer(tokenizer, min(tokenizer.model_max_length, _positions(text_encoder)))
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    multiple = factor * 2 ** (len(unet.config.block_out_channels) - 1)
    filled = {
        **DEFAULT_SETTINGS,
        **(settings or {}),
        "vae": {"factor": factor, "scaling_factor": float(vae.config.scaling_factor)},
        "size_multiple": multiple,
        "storage": storage,
    }
    check_settings(filled)  # before minutes of export
    modules: dict[str, nn.Module] = {
        "text_encoder": networks.TextEncoder(text_encoder),
        "vae_encoder": networks.VaeEncoder(vae),
        "vae_decoder": networks.VaeDecoder(vae),
        "hint": networks.HintGraph(controlnet),
        "time": TimeGraph(unet, controlnet),
        "context": ContextGraph(unet, controlnet),
        "step": networks.StepGraph(unet, controlnet),
    }
    if detector is not None:
        modules["detector"] = detector
    if mesh is not None:
        modules["mesh"] = mesh
    examples = _examples(unet, controlnet, tokens.max_length, factor, multiple)

    with new_pack(out, overwrite=overwrite) as folder:
        for role, module in modules.items():
            path = folder / f"{role}.onnx"
            export_network(module, examples[role], _axes(role, module, examples), path, storage, exporter)
        roles = list(modules)
        if feature_reuse:
            step = examples["step"], AXES["step"]
            roles += export_feature_reuse(folder, unet, controlnet, *step, storage, exporter)
        (folder / "tokenizer.json").write_text(tokens.text, encoding="utf-8")
        if constants is not None:
            arrays = {key: np.ascontiguousarray(constants[key]) for key in sorted(constants)}
            (folder / "constants.safetensors").write_bytes(save(arrays))
        manifest = {
            "name": name,
            "version": version,
            "task": "hand-refine",
            "description": description,
            "licence": licence,
            "provenance": {
                "exporter": exporter,
                "torch": str(torch.__version__),
                "diffusers": diffusers.__version__,
                "transformers": transformers.__version__,
                **(provenance or {}),
            },
            "networks": {role: describe_network(folder / f"{role}.onnx") for role in sorted(roles)},
            "scheduler": _scheduler(scheduler_config),
            "tokenizer": {
                "file": "tokenizer.json",
                "max_length": tokens.max_length,
                "start_token_id": tokens.start_token_id,
                "end_token_id": tokens.end_token_id,
                "pad_token_id": tokens.pad_token_id,
            },
            **({"constants": "constants.safetensors"} if constants is not None else {}),
            "settings": filled,
        }
        write_manifest(folder, manifest)
        Pack(folder).verify(full=True)  # what is refused when it is opened is not written either
    return Path(out)


def _positions(text_encoder: CLIPTextModel) -> int:
    return int(text_encoder.config.max_position_embeddings)


def _axes(role: str, module: nn.Module, examples: Mapping[str, dict[str, Tensor]]) -> Axes:
    """The axes of a role; `region` is left out when the mesh network does not give it."""
    axes = AXES[role]
    if role != "mesh":
        return axes
    with torch.no_grad():
        count = len(module.eval()(*examples[role].values()))
    return {port: axes[port] for port in ("image", "vertices", "camera", "region")[: 1 + count]}


def _examples(
    unet: UNet2DConditionModel, controlnet: ControlNetModel, tokens: int, factor: int, multiple: int
) -> dict[str, dict[str, Tensor]]:
    """Inputs to trace with: batch 2, height and width differ, so that no axis is taken for another."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    height, width = 2 * multiple, 3 * multiple
    h, w = height // factor, width // factor
    timestep = torch.tensor([999.0, 1.0])
    text = normal(2, tokens, unet.config.cross_attention_dim)
    with torch.no_grad():
        time, context = TimeGraph(unet, controlnet)(timestep), ContextGraph(unet, controlnet)(text)
    return {
        "detector": {"image": torch.rand(2, 3, 192, 192, generator=generator)},
        "mesh": {"image": torch.rand(2, 3, 128, 128, generator=generator)},
        "text_encoder": {"input_ids": torch.arange(tokens, dtype=torch.int64).repeat(2, 1)},
        "vae_encoder": {"image": normal(2, 3, height, width).clamp(-1, 1)},
        "vae_decoder": {"latents": normal(2, 4, h, w)},
        "hint": {"depth": torch.rand(2, 3, height, width, generator=generator)},
        "time": {"timestep": timestep},
        "context": {"encoder_hidden_states": text},
        "step": {
            "sample": normal(2, 4, h, w),
            "time": time,
            "context": context,
            "hint": normal(2, controlnet.config.block_out_channels[0], h, w),
            "inpaint": normal(2, 5, h, w),
            "control_scale": torch.tensor([1.0, 0.5]),
        },
    }


def scheduler_dict(scheduler: SchedulerMixin) -> dict[str, Any]:
    """The scheduler's config with its class name, as `save_pretrained` writes it."""
    config: dict[str, Any] = json.loads(scheduler.to_json_string())
    return config


def _scheduler(config: Mapping[str, Any]) -> dict[str, Any]:
    """The diffusers config without its private bookkeeping keys."""
    if "_class_name" not in config:
        raise ValueError(
            "scheduler_config needs _class_name, as scheduler_config.json and scheduler_dict() have it"
        )
    return {key: value for key, value in config.items() if key == "_class_name" or not key.startswith("_")}
