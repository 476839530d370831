"""Stage 4: UNet, ControlNet and text encoder together, on the latents of well-formed crops.

The loss is v-prediction error with a zero-terminal-SNR schedule, inside the mask (HandRefiner's equation 4),
and a little outside. ControlNet residuals are scaled by a random strength during training, zero now and then,
so that every control strength is in distribution: without control the UNet invents a hand, and with it the
hand follows the depth.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTokenizer

from ...tokenizer import train_tokenizer
from ..models import TOKENS, TRAINED_WITH, make_controlnet, make_text_encoder, make_unet
from . import latents as latent_stage
from .common import Trainer, autocast, batches, load_average, seeded

OUTSIDE = 0.1  # weight of the loss where the picture is known
NO_TEXT = 0.15  # how often the prompt is dropped, for classifier-free guidance
NO_CONTROL = 0.12  # how often the control strength is zero


def make_tokenizer(captions: list[str]) -> CLIPTokenizer:
    return train_tokenizer(sorted(set(captions)), vocab_size=768, max_length=TOKENS)


def make_modules(tokenizer: CLIPTokenizer) -> dict[str, nn.Module]:
    unet = make_unet()
    pad = tokenizer.pad_token_id
    text = make_text_encoder(len(tokenizer), bos=tokenizer.bos_token_id, eos=tokenizer.eos_token_id, pad=pad)
    return {"unet": unet, "controlnet": make_controlnet(unet), "text": text}


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    out = tokenizer(texts, padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt")
    return out["input_ids"]


def predict(
    modules: dict[str, nn.Module],
    sample: Tensor,
    inpaint: Tensor,
    time: Tensor,
    tokens: Tensor,
    depth: Tensor,
    strength: Tensor,
) -> Tensor:
    """v (N, 4, h, w) for noisy latents of that shape.

    inpaint [mask, masked latents] (N, 5, h, w); time (N,) timesteps; depth (N, 3, H, W) in 0..1.
    """
    text = modules["text"](tokens).last_hidden_state
    down, mid = modules["controlnet"](sample, time, text, depth, return_dict=False)
    scale = strength.view(-1, 1, 1, 1)
    return modules["unet"](
        torch.cat([sample, inpaint], dim=1),
        time,
        text,
        down_block_additional_residuals=[residual * scale for residual in down],
        mid_block_additional_residual=mid * scale,
    ).sample


def save_tokenizer(tokenizer: CLIPTokenizer, work: Path) -> None:
    tokenizer.save_pretrained(work / "tokenizer")


def load_tokenizer(work: Path) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(work / "tokenizer")


def train(
    work: Path, *, count: int, minutes: float, seed: int = 55, batch: int = 16, rate: float = 8e-4
) -> None:
    data = latent_stage.prepare(work, 0, count, "train")
    captions = [str(c) for c in data["caption"]]
    if (work / "tokenizer").exists():
        tokenizer = load_tokenizer(work)
    else:
        tokenizer = make_tokenizer(captions)
        save_tokenizer(tokenizer, work)
    tokens = tokenize(tokenizer, captions)
    empty = tokenize(tokenizer, [""])[0]
    columns: dict[str, Any] = {
        key: torch.from_numpy(data[key]) for key in ("latents", "masked", "mask", "depth")
    }
    scaling = 1.0 / float(columns["latents"][:2000].float().std())
    np.save(work / "scaling.npy", np.array(scaling))
    torch.manual_seed(seed)
    modules = make_modules(tokenizer)
    for key in ("unet", "controlnet"):
        modules[key].to(memory_format=torch.channels_last)
        # On the CPU the fused attention's backward pass takes a third of a step at these sizes; plain, 5 %.
        modules[key].set_attn_processor(AttnProcessor())
    trainer = Trainer(
        "diffusion", work, modules, rate=rate, steps=10**6, minutes=minutes, seed=seed, average_decay=0.999
    )
    generator = seeded(seed + trainer.step)
    order = batches(len(tokens), batch, generator)
    alphas = DDIMScheduler(**TRAINED_WITH).alphas_cumprod.float()

    def loss_of(trainer: Trainer) -> Tensor:
        device, pick = trainer.device, next(order)
        clean = columns["latents"][pick].float() * scaling
        mask = columns["mask"][pick].float().unsqueeze(1)
        inpaint = torch.cat([mask, columns["masked"][pick].float() * scaling], dim=1)
        depth = (columns["depth"][pick].float() / 255.0).unsqueeze(1).expand(-1, 3, -1, -1)
        words = tokens[pick].clone()
        words[torch.rand(len(pick), generator=generator) < NO_TEXT] = empty
        strength = 0.3 + 0.7 * torch.rand(len(pick), generator=generator)
        strength[torch.rand(len(pick), generator=generator) < NO_CONTROL] = 0.0
        # Stratified timesteps: one in each of `batch` equal parts, which lowers the gradient's variance.
        parts = (torch.arange(len(pick)) + torch.rand(len(pick), generator=generator)) / len(pick)
        time = (parts * 1000).long().clamp(max=999)
        signal, sigma = alphas[time].sqrt().view(-1, 1, 1, 1), (1 - alphas[time]).sqrt().view(-1, 1, 1, 1)
        noise = torch.randn(clean.shape, generator=generator)
        noisy, target = signal * clean + sigma * noise, signal * noise - sigma * clean
        inputs = [t.to(device) for t in (noisy, inpaint, time, words, depth, strength)]
        with autocast(device):
            out = predict(modules, *inputs)
        weight = (mask + OUTSIDE * (1 - mask)).to(device)
        error = (out.float() - target.to(device)) ** 2 * weight
        return error.sum() / (weight.sum() * clean.shape[1])

    trainer.run(loss_of)


def load(work: Path) -> tuple[dict[str, nn.Module], CLIPTokenizer, float]:
    """The averaged networks, the tokenizer and the latents' scaling factor."""
    tokenizer = load_tokenizer(work)
    modules = make_modules(tokenizer)
    load_average(work, "diffusion", modules)
    return modules, tokenizer, float(np.load(work / "scaling.npy"))
