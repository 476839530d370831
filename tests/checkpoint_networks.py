"""Networks with random weights as `Component`s: the real classes, tiny or of full size.

Random weights are made when they are read: the default initialisation of each layer, seeded by its name, so
that activations stay finite and the zero convolutions of a ControlNet are not zero.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from export.checkpoints import configs
from export.checkpoints.lazy import Component, LazyTensor, TensorInfo, Weights
from export.checkpoints.modules import empty_module

# The real architectures, small: four levels, SD 1's head count, SDXL's heads of 64 channels.
TINY_SD15 = {
    **configs.SD15,
    "block_out_channels": (32, 64, 64, 64),
    "cross_attention_dim": 64,
    "sample_size": 8,
}
TINY_SD15_INPAINT = {**TINY_SD15, "in_channels": 9}
TINY_CONTROLNET_SD15 = {
    **configs.CONTROLNET_SD15,
    "block_out_channels": (32, 64, 64, 64),
    "cross_attention_dim": 64,
}
_XL = {
    "block_out_channels": (64, 128, 128),
    "attention_head_dim": (1, 2, 2),
    "transformer_layers_per_block": (1, 1, 2),
    "cross_attention_dim": 96,
    "addition_time_embed_dim": 16,
    "projection_class_embeddings_input_dim": 64 + 6 * 16,
}
TINY_SDXL = {**configs.SDXL, **_XL, "sample_size": 8}
TINY_CONTROLNET_SDXL = {**configs.CONTROLNET_SDXL, **_XL}
TINY_VAE = {**configs.VAE, "block_out_channels": (32, 32, 64, 64), "layers_per_block": 1, "sample_size": 64}
TINY_VAE_SDXL = {**configs.VAE_SDXL, "block_out_channels": (32, 32, 64, 64), "layers_per_block": 1}
VOCABULARY = 640
TINY_CLIP = {
    **configs.CLIP_L,
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "projection_dim": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "bos_token_id": VOCABULARY - 2,
    "eos_token_id": VOCABULARY - 1,
}
TINY_CLIP_32 = {**TINY_CLIP, "hidden_size": 32, "intermediate_size": 64, "projection_dim": 32}
TINY_CLIP_2 = {**TINY_CLIP, "architectures": ("CLIPTextModelWithProjection",), "hidden_act": "gelu"}


# Networks


@dataclass(frozen=True)
class ModuleWeights:
    """The weights of a module that exists."""

    module: nn.Module

    def infos(self) -> dict[str, TensorInfo]:
        return {k: TensorInfo(tuple(v.shape), v.dtype) for k, v in self.module.state_dict().items()}

    def read(self, key: str) -> Tensor:
        return self.module.state_dict()[key].detach()


class RandomWeights:
    """Default initialisation of every layer of a module on "meta", seeded by seed and name; one in memory."""

    def __init__(self, module: nn.Module, seed: int) -> None:
        self.module, self.seed = module, seed
        self.shapes = {k: TensorInfo(tuple(v.shape), torch.float32) for k, v in module.state_dict().items()}
        self.last: tuple[str, dict[str, Tensor]] = ("", {})

    def infos(self) -> dict[str, TensorInfo]:
        return self.shapes

    def read(self, key: str) -> Tensor:
        path, _, name = key.rpartition(".")
        if self.last[0] != path:
            self.last = (path, self._layer(path))
        return self.last[1][name]

    def _layer(self, path: str) -> dict[str, Tensor]:
        meta = self.module.get_submodule(path)
        seed = zlib.crc32(path.encode()) + 2**32 * self.seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if isinstance(meta, nn.Embedding):
                return {"weight": 0.02 * torch.randn(meta.weight.shape)}
            if isinstance(meta, nn.GroupNorm | nn.LayerNorm):  # not just ones and zeros: a mix-up must show
                return {
                    "weight": 1 + 0.1 * torch.randn(meta.weight.shape),
                    "bias": 0.1 * torch.randn(meta.bias.shape),
                }
            bound = 1 / math.sqrt(math.prod(meta.weight.shape[1:]))  # as Linear and Conv2d do
            return {
                name: torch.empty(value.shape).uniform_(-bound, bound)
                for name, value in meta.state_dict().items()
            }


def component_of(module: nn.Module) -> Component:
    """A component over the weights of a module of diffusers or transformers."""
    if hasattr(module.config, "to_dict"):
        config = {**module.config.to_dict(), "architectures": (type(module).__name__,)}
    else:
        config = {"_class_name": type(module).__name__, **dict(module.config)}
    return Component(config, ModuleWeights(module), ())


def random_component(config: Mapping[str, Any], seed: int = 0) -> Component:
    return Component(config, RandomWeights(empty_module(config), seed), ())


def random_networks(
    kind: Literal["sd15", "sdxl"], seed: int = 0, **parts: Mapping[str, Any]
) -> dict[str, Component]:
    """A base model of full size; `parts` are configs instead of those of SD 1.5 inpainting or SDXL."""
    if kind == "sd15":
        whole = {"unet": configs.SD15_INPAINT, "vae": configs.VAE, "text_encoder": configs.CLIP_L}
    else:
        whole = {
            "unet": configs.SDXL,
            "vae": configs.VAE_SDXL,
            "text_encoder": configs.CLIP_L,
            "text_encoder_2": configs.CLIP_BIGG,
        }
    return {name: random_component(config, seed) for name, config in {**whole, **parts}.items()}


def tiny_networks(
    kind: Literal["sd15", "sdxl"] = "sd15", inpaint: bool = True, seed: int = 0
) -> dict[str, Component]:
    channels = {"in_channels": 9 if inpaint else 4}
    if kind == "sd15":
        parts = {"unet": {**TINY_SD15, **channels}, "vae": TINY_VAE, "text_encoder": TINY_CLIP}
    else:
        parts = {
            "unet": {**TINY_SDXL, **channels},
            "vae": TINY_VAE_SDXL,
            "text_encoder": TINY_CLIP_32,
            "text_encoder_2": TINY_CLIP_2,
        }
    return {name: held(random_component(config, seed)) for name, config in parts.items()}


def held(component: Component) -> Component:
    """The same network with its weights in memory, for small ones that are read often."""
    weights = {key: component.weights.read(key) for key in component.weights.infos()}
    tensors = {k: LazyTensor(tuple(v.shape), v.dtype, lambda v=v: v) for k, v in weights.items()}
    return Component(component.config, Weights(tensors), component.files)


def load(component: Component) -> nn.Module:
    """The module of a component, with its weights, in float32."""
    module = empty_module(component.config)
    state = {key: component.weights.read(key).float() for key in module.state_dict()}
    module = module.to_empty(device="cpu")
    module.load_state_dict(state)
    # to_empty leaves buffers that are not saved undefined
    for name, buffer in module.named_buffers():
        if name.endswith("position_ids"):
            buffer.copy_(torch.arange(buffer.shape[-1])[None])
    return module.eval()
