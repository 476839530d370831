"""The networks of the task hand-refine as torch modules with exactly the ports that a pack declares."""

from __future__ import annotations

import copy

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from .loop_invariants import Invariants


def without_hint_embedding(controlnet: ControlNetModel) -> ControlNetModel:
    """A twin of `controlnet` that shares its weights and takes the embedded hint instead of the picture.

    The embedding does not change over the steps, so it leaves the loop (see `HintGraph`). Only the twin's
    table of children is new; the given ControlNet is not touched.
    """
    if controlnet.config.controlnet_conditioning_channel_order != "rgb":
        raise ValueError("the ControlNet wants its picture in bgr order; only rgb is supported")
    twin = copy.copy(controlnet)
    twin._modules = dict(controlnet._modules)
    twin.controlnet_cond_embedding = nn.Identity()
    return twin


class StepGraph(nn.Module):
    """One denoising step: the ControlNet and the inpainting UNet (9 channels) in a single graph.

    sample (N,4,h,w), time (N,E) of a TimeGraph, context (N,T,K) of a ContextGraph, hint (N,C0,h,w) of a
    HintGraph, inpaint (N,5,h,w) = [mask, masked-image latents], control_scale (N,) -> prediction (N,4,h,w);
    all float32.
    """

    def __init__(self, unet: UNet2DConditionModel, controlnet: ControlNetModel) -> None:
        super().__init__()
        channels = unet.config.in_channels, controlnet.config.in_channels
        if channels != (9, 4):
            raise ValueError(f"need a UNet of 9 and a ControlNet of 4 input channels, got {channels}")
        invariants = Invariants.of({"unet": unet, "controlnet": controlnet})
        self.unet = invariants.twin("unet", unet)
        self.controlnet = without_hint_embedding(invariants.twin("controlnet", controlnet))

    def forward(
        self,
        sample: Tensor,
        time: Tensor,
        context: Tensor,
        hint: Tensor,
        inpaint: Tensor,
        control_scale: Tensor,
    ) -> Tensor:
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
            torch.cat([sample, inpaint], dim=1),
            time[:, 0],
            context,
            timestep_cond=time,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
            return_dict=False,
        )[0]
        return prediction


class HintGraph(nn.Module):
    """The ControlNet's conditioning embedding: depth (N,3,H,W) in 0..1 -> hint (N,C0,h,w)."""

    def __init__(self, controlnet: ControlNetModel) -> None:
        super().__init__()
        self.embedding = controlnet.controlnet_cond_embedding

    def forward(self, depth: Tensor) -> Tensor:
        hint: Tensor = self.embedding(depth)
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
