"""For the detector, skin that is no hand: heads with faces, necks, shoulders and bare patches."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from ..scenes.shading import random_look


def _tone(colour: np.ndarray, gain: float) -> tuple[int, int, int]:
    red, green, blue = (int(np.clip(v * gain * 255, 0, 255)) for v in colour)
    return red, green, blue


def _head(draw: ImageDraw.ImageDraw, rng: np.random.Generator, x: float, y: float, size: float) -> None:
    """A head of `size` pixels height around (x, y), with shoulders below it."""
    look = random_look(rng)
    skin, light = look.skin, float(rng.uniform(0.7, 1.05))
    width = size * float(rng.uniform(0.66, 0.82))
    cloth = _tone(rng.uniform(0.05, 0.95, 3), 1.0)
    hair = _tone(np.array([0.35, 0.22, 0.12]) * float(rng.uniform(0.1, 2.2)), 1.0)
    draw.ellipse((x - size, y + size * 0.55, x + size, y + size * 3.0), fill=cloth)
    draw.rectangle(
        (x - width * 0.22, y + size * 0.3, x + width * 0.22, y + size * 0.75), fill=_tone(skin, light * 0.85)
    )
    if rng.random() < 0.5:  # long hair behind the face
        draw.ellipse(
            (x - width * 0.72, y - size * 0.6, x + width * 0.72, y + size * float(rng.uniform(0.5, 1.0))),
            fill=hair,
        )
    draw.ellipse((x - width / 2, y - size / 2, x + width / 2, y + size / 2), fill=_tone(skin, light))
    shade = float(rng.uniform(-0.25, 0.25)) * width
    draw.ellipse(
        (x - width * 0.35 + shade, y - size * 0.3, x + width * 0.35 + shade, y + size * 0.4),
        fill=_tone(skin, light * 1.06),
    )
    draw.pieslice((x - width * 0.53, y - size * 0.56, x + width * 0.53, y + size * 0.35), 180, 360, fill=hair)
    if rng.random() < 0.85:  # a forehead below the hair line
        draw.ellipse(
            (x - width * 0.42, y - size * 0.3, x + width * 0.42, y + size * 0.3),
            fill=_tone(skin, light * 1.03),
        )
    for side in (-1, 1):
        eye = x + side * width * 0.2
        draw.ellipse(
            (eye - size * 0.05, y - size * 0.09, eye + size * 0.05, y - size * 0.02), fill=(25, 20, 18)
        )
        draw.line(
            (eye - size * 0.08, y - size * 0.15, eye + size * 0.08, y - size * 0.15),
            fill=hair,
            width=max(1, int(size * 0.03)),
        )
    draw.line(
        (x, y - size * 0.05, x + size * 0.03, y + size * 0.12),
        fill=_tone(skin, light * 0.8),
        width=max(1, int(size * 0.03)),
    )
    mouth = size * float(rng.uniform(0.02, 0.1))
    draw.ellipse(
        (x - width * 0.17, y + size * 0.25 - mouth / 2, x + width * 0.17, y + size * 0.25 + mouth),
        fill=(150, 60, 60),
    )
    if rng.random() < 0.3:
        draw.chord((x - width * 0.42, y - size * 0.05, x + width * 0.42, y + size * 0.52), 20, 160, fill=hair)


def _near(box: Tensor, x: float, y: float, height: float) -> bool:
    """Whether a head around (x, y) would touch a hand box."""
    reach = 0.5 * float(box[2] - box[0]) + 0.6 * height
    return abs(float(box[0] + box[2]) / 2 - x) < reach and abs(float(box[1] + box[3]) / 2 - y) < reach


def add_distractors(image: Tensor, boxes: Tensor, rng: np.random.Generator) -> Tensor:
    """Draws one or two heads or skin patches on a picture (3, S, S) in 0..1, clear of hand boxes (K, 4)."""
    size = image.shape[1]
    canvas = Image.fromarray((image.permute(1, 2, 0).numpy() * 255).clip(0, 255).astype(np.uint8))
    layer = canvas.copy()
    draw = ImageDraw.Draw(layer)
    for _ in range(int(rng.integers(1, 3))):
        x, y = (float(v) for v in rng.uniform(0.05, 0.95, 2) * size)
        height = float(rng.uniform(0.15, 0.55)) * size
        if any(_near(box, x, y, height) for box in boxes):
            continue
        if rng.random() < 0.8:
            _head(draw, rng, x, y, height)
        else:
            look = random_look(rng)
            box = (x - height * 0.5, y - height * 0.2, x + height * 0.5, y + height * 0.2)
            draw.ellipse(box, fill=_tone(look.skin, float(rng.uniform(0.6, 1.05))))
    layer = layer.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.2, 1.2))))
    # Hands stay in front of shoulders: their boxes keep the picture, with a margin for the wrist.
    for box in boxes:
        if not box.isnan().any():
            margin = 0.12 * float(box[2] - box[0])
            x0, y0, x1, y1 = (
                int(v) for v in (box[0] - margin, box[1] - margin, box[2] + margin, box[3] + margin)
            )
            x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, size), min(y1, size)
            if x1 > x0 and y1 > y0:
                layer.paste(canvas.crop((x0, y0, x1, y1)), (x0, y0))
    return torch.from_numpy(np.asarray(layer, np.float32) / 255.0).permute(2, 0, 1)


def add_bars(image: Tensor, boxes: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """The picture squeezed between black bars, as letterboxing leaves it, where the hands stay in view."""
    size = image.shape[1]
    inner = int(rng.uniform(0.55, 0.95) * size)
    start = (size - inner) // 2
    small = torch.nn.functional.interpolate(image[None], size=(inner, inner), mode="area")[0]
    out = torch.zeros_like(image)
    tall = bool(rng.random() < 0.5)
    # The picture fills the other direction by repeating its edge, which no box covers.
    body = torch.nn.functional.pad(
        small[None],
        (0, 0, start, size - inner - start) if tall else (start, size - inner - start, 0, 0),
        mode="replicate",
    )[0]
    if tall:
        out[:, :, start : start + inner] = body
    else:
        out[:, start : start + inner] = body
    return out, boxes * (inner / size) + start
