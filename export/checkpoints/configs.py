"""Facts of the published architectures, as the configs of their diffusers and transformers classes.

A checkpoint in one file carries no config. What its shapes do not tell (heads, activations, scaling factor,
noise schedule) is taken from here; the rest is read from the shapes (see `ldm_configs`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Config = Mapping[str, Any]

SD15: Config = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,  # in SD 1 this is the number of heads, whatever the key's name
    "norm_num_groups": 32,
    "transformer_layers_per_block": 1,
    "use_linear_projection": False,
}
SD15_INPAINT: Config = {**SD15, "in_channels": 9}

SDXL: Config = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 128,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 2,
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),  # heads of 64 channels
    "norm_num_groups": 32,
    "transformer_layers_per_block": (1, 2, 10),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,  # 1280 pooled + 6 numbers of 256
}
SDXL_INPAINT: Config = {**SDXL, "in_channels": 9}

_HINT: Config = {
    "_class_name": "ControlNetModel",
    "in_channels": 4,
    "conditioning_channels": 3,
    "conditioning_embedding_out_channels": (16, 32, 96, 256),
    "controlnet_conditioning_channel_order": "rgb",
}
_UNET_ONLY = ("sample_size", "out_channels", "up_block_types")
CONTROLNET_SD15: Config = {**{k: v for k, v in SD15.items() if k not in _UNET_ONLY}, **_HINT}
CONTROLNET_SDXL: Config = {**{k: v for k, v in SDXL.items() if k not in _UNET_ONLY}, **_HINT}

VAE: Config = {
    "_class_name": "AutoencoderKL",
    "sample_size": 512,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "scaling_factor": 0.18215,
}
# The same network trained anew: its activations leave the range of a half in the published weights.
VAE_SDXL: Config = {**VAE, "sample_size": 1024, "scaling_factor": 0.13025, "force_upcast": True}

CLIP_L: Config = {
    "architectures": ("CLIPTextModel",),
    "model_type": "clip_text_model",
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "projection_dim": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,  # of 64 channels
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 1,
}
CLIP_BIGG: Config = {
    **CLIP_L,
    "architectures": ("CLIPTextModelWithProjection",),
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "projection_dim": 1280,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
}

# alphas of both families; "leading" with offset 1 gives the timesteps 1, 21, ..., 981 for 50 steps.
SCHEDULER: Config = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "prediction_type": "epsilon",
}
