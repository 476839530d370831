"""A tiny pack of the real classes with random weights, made in seconds, for tests of what is around them.

The diffusion networks are random. Detector and mesh are hand-made instead of random, so that a test knows
what they find: a "hand" is a saturated red blob; a LEFT hand if green exceeds blue in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel

from ..handrefiner import build_pack, scheduler_dict
from ..tokenizer import train_tokenizer

CAPTIONS = ["an open palm", "a fist", "a hand that points", "two hands", "a blurred hand", "a malformed hand"]
TEXT_WIDTH, MAX_LENGTH = 32, 24


def redness(image: Tensor) -> Tensor:
    """(N,3,H,W) RGB in 0..1 -> (N,1,H,W): 1 where red exceeds the others clearly, 0 for greys and skin."""
    red, green, blue = image.split(1, dim=1)
    return ((red - torch.maximum(green, blue) - 0.3) * 10.0).clamp(0.0, 1.0)


class BlobDetector(nn.Module):
    """image (N,3,192,192) in 0..1 -> score (N,24,24), center (N,2,24,24), side (N,24,24), left (N,24,24)."""

    reach = 13  # cells; a blob should not be larger

    def __init__(self) -> None:
        super().__init__()
        offsets = torch.arange(self.reach) - self.reach // 2
        bell = torch.exp(-(offsets**2) / (2 * 3.0**2))
        ones = torch.ones(self.reach, self.reach)
        self.register_buffer("bell", (bell[:, None] * bell / bell.sum() ** 2)[None, None])
        self.register_buffer("sums", ones[None, None])

    def _around(self, cells: Tensor, kernel: Tensor) -> Tensor:
        return F.conv2d(cells, kernel, padding=self.reach // 2)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        red = redness(image)
        density = F.avg_pool2d(red, 8)
        heat = self._around(density, self.bell)
        peak = (heat >= F.max_pool2d(heat, 5, stride=1, padding=2)).to(image.dtype)
        score = heat / (heat + 0.03) * peak

        ramp = torch.arange(192, dtype=image.dtype) + 0.5
        mass = self._around(density, self.sums).clamp(min=1e-6)
        x = self._around(F.avg_pool2d(red * ramp, 8), self.sums) / mass
        y = self._around(F.avg_pool2d(red * ramp[:, None], 8), self.sums) / mass
        cell = torch.arange(24, dtype=image.dtype)
        center = torch.cat([x / 8.0 - cell, y / 8.0 - cell[:, None]], dim=1).clamp(0.0, 1.0)

        side = torch.log((mass * 64.0).sqrt().clamp(min=8.0) / 192.0)
        green_minus_blue = image[:, 1:2] - image[:, 2:3]
        tint = self._around(F.avg_pool2d(red * green_minus_blue, 8), self.sums) / mass
        left = torch.sigmoid(40.0 * tint)
        return score[:, 0], center, side[:, 0], left[:, 0]


class BlobMesh(nn.Module):
    """image (N,3,128,128) -> vertices (N,42,3) metres, camera (N,3), region (N,128,128).

    A closed flattened ball of hand size in front of the camera, dented a little by the picture; its
    silhouette covers about 60 % of the crop's height. region is the red blob.
    """

    def __init__(self, template: Tensor) -> None:
        super().__init__()
        self.register_buffer("template", template)
        self.register_buffer("camera", torch.tensor([7.0, 0.0, 0.0]))
        self.features = nn.Conv2d(3, 8, 9, stride=8)
        self.offsets = nn.Linear(8, template.numel())

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.features(image).mean(dim=(2, 3))
        offsets = 0.002 * torch.tanh(self.offsets(features)).reshape(-1, *self.template.shape)
        camera = self.camera + 0.0 * features[:, :3]
        return self.template + offsets, camera, redness(image)[:, 0]


def make_modules(seed: int = 0) -> dict[str, Any]:
    """The networks of the pack as torch modules, by their names in `build_pack`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        widths: dict[str, Any] = {
            "block_out_channels": (32, 64),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "layers_per_block": 1,
            "cross_attention_dim": TEXT_WIDTH,
            "attention_head_dim": 4,
            "norm_num_groups": 8,
        }
        unet = UNet2DConditionModel(
            in_channels=9, out_channels=4, up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), **widths
        )
        controlnet = ControlNetModel(in_channels=4, conditioning_embedding_out_channels=(8, 16, 32), **widths)
        for (
            parameter
        ) in controlnet.parameters():  # the connections start at zero; here they shall do something
            if not parameter.any():
                nn.init.normal_(parameter, std=0.1)
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(8, 16, 16),
            layers_per_block=1,
            norm_num_groups=4,
            latent_channels=4,
            scaling_factor=0.2,
        )
        tokenizer = train_tokenizer(CAPTIONS, vocab_size=600, max_length=MAX_LENGTH)
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=TEXT_WIDTH,
                intermediate_size=2 * TEXT_WIDTH,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=MAX_LENGTH,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        ball = trimesh.creation.icosphere(subdivisions=1, radius=1.0)
        template = torch.tensor(ball.vertices * (0.06, 0.085, 0.03), dtype=torch.float32)
        modules: dict[str, Any] = {
            "unet": unet,
            "controlnet": controlnet,
            "vae": vae,
            "text_encoder": text_encoder,
            "detector": BlobDetector(),
            "mesh": BlobMesh(template),
        }
    for module in modules.values():
        module.eval()
    return {**modules, "tokenizer": tokenizer, "faces": np.asarray(ball.faces, dtype=np.int32)}


def make_random_pack(out: Path, seed: int = 0, crop: int = 64, **options: Any) -> Path:
    """Writes the pack to `out` and returns it; `options` go to `build_pack` (storage, overwrite …)."""
    modules = make_modules(seed)
    faces = modules.pop("faces")
    vertices = modules["mesh"].template.shape[0]
    rows = np.random.default_rng(seed).random((21, vertices)).astype(np.float32) ** 8
    constants = {"faces": faces, "joint_regressor": rows / rows.sum(axis=1, keepdims=True)}
    scheduler = DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    given: dict[str, Any] = {
        "name": "random",
        "description": "Random weights; for tests only.",
        "licence": "Apache-2.0",
        "settings": {"crop": crop, "steps": 4, "negative_prompt": "a malformed hand"},
        **options,
    }
    return build_pack(
        out=out, scheduler_config=scheduler_dict(scheduler), constants=constants, **modules, **given
    )
