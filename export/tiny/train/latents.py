"""Latents for the diffusion stage: every crop, or its mirror image, encoded once with a random hand mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from .. import dataset
from ..models import FACTOR
from . import vae as vae_stage
from .common import pick_device, seeded

KEYS = ("latents", "masked", "mask", "depth", "caption")


def random_masks(regions: Tensor, generator: torch.Generator) -> Tensor:
    """Bool masks around hand regions, both (N, 128, 128), of several reaches; one in five is a rectangle."""
    masks = torch.zeros_like(regions, dtype=torch.bool)
    reach = torch.randint(3, 15, (len(regions),), generator=generator)
    for radius in reach.unique().tolist():
        pick = reach == radius
        grown = functional.max_pool2d(regions[pick].float().unsqueeze(1), 2 * radius + 1, 1, radius)
        masks[pick] = grown[:, 0] > 0
    for n in torch.nonzero(torch.rand(len(regions), generator=generator) < 0.2).flatten().tolist():
        ys, xs = torch.nonzero(masks[n], as_tuple=True)
        if len(ys):
            masks[n, ys.min() : ys.max() + 1, xs.min() : xs.max() + 1] = True
    return masks


def _swap_sides(caption: str) -> str:
    return (
        caption.replace("left hand", "right* hand")
        .replace("right hand", "left hand")
        .replace("right* hand", "right hand")
    )


def prepare(work: Path, first: int, count: int, name: str, seed: int = 44) -> dict[str, NDArray[np.generic]]:
    """Loads, or makes and stores, the latents of the crops of a range of seeds.

    latents and masked (N, 4, 32, 32) float16, unscaled; mask (N, 32, 32) bool, true = regenerate; depth
    (N, 128, 128) uint8; caption (N,). Half of the crops, drawn at random, are mirrored.
    """
    path = work / f"latents-{name}.npz"
    if path.exists():
        with np.load(path) as stored:
            return {key: stored[key] for key in KEYS}
    device = pick_device()
    vae = vae_stage.load(work).to(device).to(memory_format=torch.channels_last)
    columns = dataset.load(
        work / "data", first, count, ("image", "region", "malformed_region", "depth", "caption")
    )
    generator = seeded(seed)
    parts: dict[str, list[NDArray[np.generic]]] = {key: [] for key in KEYS}
    for start in range(0, len(columns["image"]), 256):
        part = slice(start, start + 256)
        images = torch.from_numpy(columns["image"][part])
        regions = torch.from_numpy(columns["region"][part] | columns["malformed_region"][part])
        depth = torch.from_numpy(columns["depth"][part])
        flip = torch.rand(len(images), generator=generator) < 0.5
        images[flip], regions[flip], depth[flip] = (
            images[flip].flip(2),
            regions[flip].flip(2),
            depth[flip].flip(2),
        )
        captions = [str(c) for c in columns["caption"][part]]
        captions = [_swap_sides(c) if f else c for c, f in zip(captions, flip.tolist(), strict=True)]
        masks = random_masks(regions, generator)
        # The hole is mid grey: 127 is -0.004 in -1..1, the nearest that uint8 has to 0.
        holes = images.masked_fill(masks.unsqueeze(-1), 127)
        parts["latents"].append(vae_stage.encode_all(vae, images, device).numpy())
        parts["masked"].append(vae_stage.encode_all(vae, holes, device).numpy())
        latent_mask = functional.max_pool2d(masks.float().unsqueeze(1), FACTOR)[:, 0] > 0
        parts["mask"].append(latent_mask.numpy())
        parts["depth"].append(depth.numpy())
        parts["caption"].append(np.array(captions))
        print(f"latents {name}: {start + len(images)} of {len(columns['image'])}", flush=True)
    stored = {key: np.concatenate(values) for key, values in parts.items()}
    temporary = path.with_suffix(".part.npz")
    np.savez(temporary, **stored)  # type: ignore[arg-type]
    temporary.replace(path)
    return stored
