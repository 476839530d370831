"""Random backgrounds: colour gradients, soft noise, stripes, tiles and blurred shapes."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Picture = NDArray[np.float32]  # (H, W, 3), 0..1


def _soft_noise(rng: np.random.Generator, height: int, width: int, cells: int) -> NDArray[np.float32]:
    """(H, W, 3) smooth noise in -1..1 from a coarse random grid."""
    grid = 0.75 * rng.random((cells, cells, 1), dtype=np.float32) + 0.25 * rng.random(
        (cells, cells, 3), dtype=np.float32
    )
    image = Image.fromarray((grid * 255).astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image, np.float32) / 127.5 - 1.0


def _colour(rng: np.random.Generator) -> NDArray[np.float32]:
    value, tint = rng.uniform(0.12, 0.88), rng.normal(0.0, 0.09, 3)
    return np.clip(value + tint - tint.mean(), 0.03, 0.97).astype(np.float32)


def _shapes(rng: np.random.Generator, base: Picture) -> Picture:
    """Things in a room: overlapping boxes and discs, more or less out of focus."""
    height, width = base.shape[:2]
    image = Image.fromarray((base * 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(2, 9))):
        x, y = rng.uniform(-0.2, 1.0, 2) * (width, height)
        w, h = rng.uniform(0.1, 0.7, 2) * (width, height)
        fill = tuple(int(v * 255) for v in _colour(rng))
        if rng.random() < 0.6:
            draw.rectangle((x, y, x + w, y + h), fill=fill)
        else:
            draw.ellipse((x, y, x + w, y + h), fill=fill)
    image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 9.0))))
    return np.asarray(image, np.float32) / 255.0


def _stripes(rng: np.random.Generator, base: Picture) -> Picture:
    height, width = base.shape[:2]
    angle, period = rng.uniform(0, np.pi), rng.uniform(9.0, 50.0)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    phase = (x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / period)
    wave = np.sin(phase)
    if rng.random() < 0.4:  # tiles
        wave = np.minimum(wave, np.sin((y * np.cos(angle) - x * np.sin(angle)) * (2 * np.pi / period)))
    wave = np.clip(wave * rng.uniform(1.0, 5.0), -1.0, 1.0)
    return base + wave[..., None] * (_colour(rng) - 0.5) * rng.uniform(0.1, 0.5)


def random_background(rng: np.random.Generator, height: int, width: int) -> Picture:
    """A background (H, W, 3) in 0..1."""
    a, b = _colour(rng), _colour(rng)
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    slope = 0.5 + 0.35 * (x * np.cos(angle) + y * np.sin(angle))
    picture = (a * (1 - slope[..., None]) + b * slope[..., None]).astype(np.float32)
    kind = rng.random()
    if kind < 0.45:
        picture = _shapes(rng, np.clip(picture, 0, 1))
    elif kind < 0.65:
        picture = _stripes(rng, picture)
    for cells, strength in ((int(rng.integers(3, 8)), 0.12), (int(rng.integers(12, 48)), 0.05)):
        picture = picture + _soft_noise(rng, height, width, cells) * rng.uniform(0.0, strength)
    return np.clip(picture, 0.0, 1.0).astype(np.float32)
