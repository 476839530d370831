"""Builds a pack of the task hand-refine from torch modules, whatever their size."""

from __future__ import annotations

import json
import shutil
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
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from .feature_reuse import export_feature_reuse
from .graphs import AXES, MESH_INPUT, axes_of, make_examples, make_graphs
from .hollow import is_hollow
from .onnx_export import Exporter, export_network
from .pack_writer import (
    check_free,
    describe_network,
    finish_network,
    finished_network,
    new_pack,
    write_manifest,
)
from .streaming import export_network_streaming
from .tokenizer import TokenizerExport, export_tokenizer
from .weights_file import Storage

__all__ = ["AXES", "DEFAULT_SETTINGS", "Watch", "build_pack", "scheduler_dict"]

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
LANDMARKER = "hand_landmarker.task"


class Watch:
    """Is told how a build goes on; does nothing by itself."""

    def network(self, role: str, reused: bool) -> None:
        """Called before a network is written, or because an interrupted build has written it."""

    def written(self, count: int) -> None:
        """Called with the bytes of each weight that was written."""

    def verifying(self) -> None:
        """Called before every file is read again and compared."""


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
    text_encoder_2: CLIPTextModelWithProjection | None = None,
    tokenizer_2: CLIPTokenizer | None = None,
    detector: nn.Module | None = None,
    mesh: nn.Module | None = None,
    mesh_input: int = MESH_INPUT,
    constants: Mapping[str, np.ndarray] | None = None,
    landmarker: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    version: str = "1",
    description: str = "",
    licence: str = "",
    provenance: Mapping[str, Any] | None = None,
    storage: Storage = "fp32",
    exporter: Exporter = "trace",
    overwrite: bool = False,
    feature_reuse: bool = False,
    key: str | None = None,
    watch: Watch | None = None,
) -> Path:
    """Writes the pack folder `out` atomically, verifies it in full and returns it.

    The weights of unet, controlnet, vae and the text encoders may be placeholders of `hollow`; they are read
    one by one. text_encoder_2, tokenizer_2: SDXL's.
    detector: image (N,3,192,192) -> (score, center, side, left); mesh: image (N,3,M,M) with M = mesh_input ->
    (vertices, camera) or (vertices, camera, region). constants: `faces` (F,3) int32 and `joint_regressor`
    (21,V) float32, needed with mesh. landmarker: mediapipe's hand_landmarker.task, copied into the pack.
    settings: overrides of DEFAULT_SETTINGS; the VAE's factor and scaling factor, the size multiple that the
    UNet wants and the storage are filled in here. The modules are put into eval mode and otherwise left
    alone. feature_reuse: writes the step's variants that keep and reuse features too (feature_reuse.py), a
    few graphs that share its weights.
    key: names the inputs; finished networks of an interrupted build of the same key are reused (see
    `new_pack`). watch: is told what happens.
    """
    watch = watch or Watch()
    tokens = export_tokenizer(tokenizer, min(tokenizer.model_max_length, _positions(text_encoder)))
    tokens_2 = export_tokenizer(tokenizer_2, tokens.max_length) if tokenizer_2 is not None else None
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    multiple = factor * 2 ** (len(unet.config.block_out_channels) - 1)
    filled = {
        **DEFAULT_SETTINGS,
        **(settings or {}),
        "vae": {
            "factor": factor,
            "scaling_factor": float(vae.config.scaling_factor),
            # As in diffusers' pipelines: those of SD1.5 never ask, though its autoencoders default to True.
            "upcast": text_encoder_2 is not None and bool(vae.config.get("force_upcast", True)),
        },
        "size_multiple": multiple,
        "storage": storage,
    }
    check_settings(filled)  # before minutes of export
    check_free(Path(out), overwrite)
    streamed = make_graphs(unet, controlnet, vae, text_encoder, text_encoder_2)
    given = {role: module for role, module in (("detector", detector), ("mesh", mesh)) if module is not None}
    pooled = 0 if text_encoder_2 is None else int(text_encoder_2.config.projection_dim)
    examples = make_examples(unet, controlnet, tokens.max_length, factor, multiple, pooled, mesh_input)

    with new_pack(out, overwrite=overwrite, key=key) as folder:
        hashes: dict[str, str] = {}
        for role, module in {**streamed, **given}.items():
            found = finished_network(folder, role)
            watch.network(role, found is not None)
            if found is None:
                path, example = folder / f"{role}.onnx", examples[role]
                axes = axes_of(role, module, example)
                if (role in streamed or is_hollow(module)) and exporter == "trace":
                    found = export_network_streaming(module, example, axes, path, storage, watch.written)
                else:
                    found = export_network(module, example, axes, path, storage, exporter, watch.written)
                finish_network(folder, role, found)
            hashes |= found
        roles = [*streamed, *given]
        if feature_reuse:
            step = examples["step"], axes_of("step", streamed["step"], examples["step"])
            roles += export_feature_reuse(folder, unet, controlnet, *step, storage, exporter)
        (folder / "tokenizer.json").write_text(tokens.text, encoding="utf-8")
        if tokens_2 is not None:
            (folder / "tokenizer_2.json").write_text(tokens_2.text, encoding="utf-8")
        if constants is not None:
            arrays = {name: np.ascontiguousarray(constants[name]) for name in sorted(constants)}
            (folder / "constants.safetensors").write_bytes(save(arrays))
        if landmarker is not None:
            shutil.copyfile(landmarker, folder / LANDMARKER)
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
            "tokenizer": _tokenizer("tokenizer.json", tokens),
            **({} if tokens_2 is None else {"tokenizer_2": _tokenizer("tokenizer_2.json", tokens_2)}),
            **({} if constants is None else {"constants": "constants.safetensors"}),
            **({} if landmarker is None else {"landmarker": LANDMARKER}),
            "settings": filled,
        }
        write_manifest(folder, manifest, hashes)
        watch.verifying()
        Pack(folder).verify(full=True)  # what is refused when it is opened is not written either
    return Path(out)


def _tokenizer(file: str, tokens: TokenizerExport) -> dict[str, Any]:
    return {
        "file": file,
        "max_length": tokens.max_length,
        "start_token_id": tokens.start_token_id,
        "end_token_id": tokens.end_token_id,
        "pad_token_id": tokens.pad_token_id,
    }


def _positions(text_encoder: CLIPTextModel) -> int:
    return int(text_encoder.config.max_position_embeddings)


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
