"""The graphs of a pack of the task hand-refine: a module per role, its axes, and inputs to trace it with."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from . import networks
from .loop_invariants import ContextGraph, TimeGraph
from .onnx_export import Axes

LATENT = {0: "N", 2: "h", 3: "w"}
PICTURE = {0: "N", 2: "H", 3: "W"}
BATCH = {0: "N"}
STEPS = {0: "S"}
AXES: Mapping[str, Axes] = {
    "detector": dict.fromkeys(("image", "score", "center", "side", "left"), BATCH),
    "mesh": dict.fromkeys(("image", "vertices", "camera", "region"), BATCH),
    "text_encoder": {"input_ids": BATCH, "last_hidden_state": BATCH},
    "text_encoder_2": {"input_ids": BATCH, "last_hidden_state": BATCH, "pooled": BATCH},
    "vae_encoder": {"image": PICTURE, "mean": LATENT, "logvar": LATENT},
    "vae_decoder": {"latents": LATENT, "image": PICTURE},
    "hint": {"depth": PICTURE, "hint": LATENT},
    "time": {"timestep": STEPS, "pooled": STEPS, "time_ids": STEPS, "time": STEPS},
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
OPTIONAL = {"time": ("pooled", "time_ids"), "step": ("inpaint",)}  # inputs that not every model has
MESH_INPUT = 128  # pixels a side, unless the module has an `input_size`


def make_graphs(
    unet: UNet2DConditionModel,
    controlnet: ControlNetModel,
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    text_encoder_2: CLIPTextModelWithProjection | None = None,
) -> dict[str, nn.Module]:
    """The diffusion networks by role. They share the weights of the given modules, which are not touched.

    Raises ValueError for modules that do not go together, or that use what the graphs do not know.
    """
    if (unet.config.addition_embed_type is not None) != (text_encoder_2 is not None):
        raise ValueError("a UNet of SDXL needs a second text encoder, and only it has one")
    first = networks.TextEncoder if text_encoder_2 is None else networks.PenultimateTextEncoder
    graphs: dict[str, nn.Module] = {"text_encoder": first(text_encoder)}
    if text_encoder_2 is not None:
        graphs["text_encoder_2"] = networks.PooledTextEncoder(text_encoder_2)
    return {
        **graphs,
        "vae_encoder": networks.VaeEncoder(vae),
        "vae_decoder": networks.VaeDecoder(vae),
        "hint": networks.HintGraph(controlnet),
        "time": TimeGraph(unet, controlnet),
        "context": ContextGraph(unet, controlnet),
        "step": networks.StepGraph(unet, controlnet),
    }


def axes_of(role: str, module: nn.Module, example: Mapping[str, Tensor]) -> Axes:
    """The axes of a role, without the ports that this model has not got."""
    axes = AXES[role]
    if role == "mesh":  # the region is optional
        with torch.no_grad():
            count = len(module.eval()(*example.values()))
        return {port: axes[port] for port in ("image", "vertices", "camera", "region")[: 1 + count]}
    absent = [port for port in OPTIONAL.get(role, ()) if port not in example]
    return {port: named for port, named in axes.items() if port not in absent}


def make_examples(
    unet: UNet2DConditionModel,
    controlnet: ControlNetModel,
    tokens: int,
    factor: int,
    multiple: int,
    pooled: int = 0,
    mesh_input: int = MESH_INPUT,
) -> dict[str, dict[str, Tensor]]:
    """Inputs to trace with, small: batch 2, height and width differ, so that no axis is taken for another.

    tokens: of a prompt. factor: pixels per latent. multiple: sides are multiples of it. pooled: width of the
    second text encoder's pooled state, 0: there is none. mesh_input: side of the mesh network's picture.
    """
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    height, width = 2 * multiple, 3 * multiple
    h, w = height // factor, width // factor
    timestep = torch.tensor([999.0, 1.0])
    text = normal(2, tokens, unet.config.cross_attention_dim)
    added = {"pooled": normal(2, pooled), "time_ids": torch.full((2, 6), 512.0)} if pooled else {}
    with torch.no_grad():
        time = TimeGraph(unet, controlnet)(timestep, *added.values())
        context = ContextGraph(unet, controlnet)(text)
    ids = {"input_ids": torch.arange(tokens, dtype=torch.int64).repeat(2, 1)}
    channels = unet.config.in_channels
    inpaint = {"inpaint": normal(2, channels - 4, h, w)} if channels > 4 else {}
    return {
        "detector": {"image": torch.rand(2, 3, 192, 192, generator=generator)},
        "mesh": {"image": torch.rand(2, 3, mesh_input, mesh_input, generator=generator)},
        "text_encoder": ids,
        "text_encoder_2": ids,
        "vae_encoder": {"image": normal(2, 3, height, width).clamp(-1, 1)},
        "vae_decoder": {"latents": normal(2, 4, h, w)},
        "hint": {"depth": torch.rand(2, 3, height, width, generator=generator)},
        "time": {"timestep": timestep, **added},
        "context": {"encoder_hidden_states": text},
        "step": {
            "sample": normal(2, 4, h, w),
            "time": time,
            "context": context,
            "hint": normal(2, controlnet.config.block_out_channels[0], h, w),
            **inpaint,
            "control_scale": torch.tensor([1.0, 0.5]),
        },
    }
