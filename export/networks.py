"""The networks of the task hand-refine as torch modules with exactly the ports that a pack declares."""

from __future__ import annotations

import copy

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from .loop_invariants import Invariants


def without_hint_embedding(controlnet: ControlNetModel) -> ControlNetModel:
    """A twin of `controlnet` that shares its weights and takes the embedded hint instead of the picture.

    The embedding does not change over the steps, so it leaves the loop (see `HintGraph`). Only the twin's
    table of children is new; the given ControlNet is not touched.
    """
    twin = copy.copy(controlnet)
    twin._modules = dict(controlnet._modules)
    twin.controlnet_cond_embedding = nn.Identity()
    twin.register_to_config(controlnet_conditioning_channel_order="rgb")  # HintGraph has seen to the order
    return twin


class StepGraph(nn.Module):
    """One denoising step: the ControlNet and the UNet in a single graph.

    sample (N,4,h,w), time (N,E) of a TimeGraph, context (N,T,K) of a ContextGraph, hint (N,C0,h,w) of a
    HintGraph, control_scale (N,) -> prediction (N,4,h,w); all float32. A UNet of 9 channels (inpainting) also
    takes inpaint (N,5,h,w) = [mask, masked-image latents], before control_scale.
    """

    def __init__(self, unet: UNet2DConditionModel, controlnet: ControlNetModel) -> None:
        super().__init__()
        check_pair(unet, controlnet)
        invariants = Invariants.of({"unet": unet, "controlnet": controlnet})
        self.unet = invariants.twin("unet", unet)
        self.controlnet = without_hint_embedding(invariants.twin("controlnet", controlnet))

    def forward(self, sample: Tensor, time: Tensor, context: Tensor, hint: Tensor, *rest: Tensor) -> Tensor:
        *inpaint, control_scale = rest
        down, mid = self.controlnet(
            sample,
            time[:, 0],  # only its length is looked at: the twin takes the projected time instead
            context,
            hint,
            conditioning_scale=control_scale[:, None, None, None],
            timestep_cond=time,
            return_dict=False,
        )
        prediction: Tensor = self.unet(
            torch.cat([sample, *inpaint], dim=1),
            time[:, 0],
            context,
            timestep_cond=time,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
            return_dict=False,
        )[0]
        return prediction


def check_pair(unet: UNet2DConditionModel, controlnet: ControlNetModel) -> None:
    """Raises ValueError for a UNet and a ControlNet that cannot work together, or not in this step."""
    channels = unet.config.in_channels, controlnet.config.in_channels
    if channels not in ((9, 4), (4, 4)):
        raise ValueError(f"need a UNet of 9 or 4 and a ControlNet of 4 input channels, got {channels}")
    for key in ("block_out_channels", "cross_attention_dim", "addition_embed_type"):
        ours, theirs = unet.config.get(key), controlnet.config.get(key)
        if (list(ours) if isinstance(ours, list | tuple) else ours) != (
            list(theirs) if isinstance(theirs, list | tuple) else theirs
        ):
            raise ValueError(f"the ControlNet is for another base model: its {key} is {theirs}, not {ours}")
    if controlnet.config.get("global_pool_conditions"):
        raise ValueError("the ControlNet pools its condition, which is not supported")


class HintGraph(nn.Module):
    """The ControlNet's conditioning embedding: depth (N,3,H,W) in 0..1, RGB -> hint (N,C0,h,w)."""

    def __init__(self, controlnet: ControlNetModel) -> None:
        super().__init__()
        self.embedding = controlnet.controlnet_cond_embedding
        order = controlnet.config.controlnet_conditioning_channel_order
        if order not in ("rgb", "bgr"):
            raise ValueError(f"the ControlNet wants its picture in the order {order!r}, not rgb or bgr")
        self.reverse = order == "bgr"

    def forward(self, depth: Tensor) -> Tensor:
        hint: Tensor = self.embedding(depth.flip(1) if self.reverse else depth)
        return hint


class VaeEncoder(nn.Module):
    """image (N,3,H,W) in -1..1 -> mean, logvar (N,4,h,w) of the posterior, unscaled; logvar in -30..20."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        posterior = self.vae.encode(image).latent_dist
        return posterior.mean, posterior.logvar


class VaeDecoder(nn.Module):
    """latents (N,4,h,w), already divided by the scaling factor -> image (N,3,H,W), about -1..1."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latents: Tensor) -> Tensor:
        image: Tensor = self.vae.decode(latents, return_dict=False)[0]
        return image


class TextEncoder(nn.Module):
    """input_ids (N,T) int64 -> last_hidden_state (N,T,D), after the final layer norm."""

    def __init__(self, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.text_encoder = text_encoder

    def forward(self, input_ids: Tensor) -> Tensor:
        states: Tensor = self.text_encoder(input_ids=input_ids).last_hidden_state
        return states


class PenultimateTextEncoder(nn.Module):
    """input_ids (N,T) int64 -> last_hidden_state (N,T,D) of the last layer but one, as SDXL reads it."""

    def __init__(self, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.text_encoder = text_encoder

    def forward(self, input_ids: Tensor) -> Tensor:
        states: Tensor = self.text_encoder(input_ids=input_ids, output_hidden_states=True).hidden_states[-2]
        return states


class PooledTextEncoder(nn.Module):
    """SDXL's second one: input_ids (N,T) int64 -> last_hidden_state (N,T,D) of the last layer but one, and
    pooled (N,P), the projected state of the end token.
    """

    def __init__(self, text_encoder: CLIPTextModelWithProjection) -> None:
        super().__init__()
        self.text_encoder = text_encoder

    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        output = self.text_encoder(input_ids=input_ids, output_hidden_states=True)
        return output.hidden_states[-2], output.text_embeds
