"""Skin, sleeves and light: colours rasterised surfaces per pixel."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ...hand.anatomy import fingers

Array = NDArray[np.float32]

# Skin albedo (sRGB 0..1) of the back of the hand from light to dark, and the word that a caption uses.
_TONES = (
    ("pale", (0.93, 0.76, 0.68)),
    ("light", (0.88, 0.68, 0.57)),
    ("tan", (0.77, 0.56, 0.43)),
    ("olive", (0.68, 0.49, 0.36)),
    ("brown", (0.52, 0.35, 0.25)),
    ("dark", (0.36, 0.24, 0.18)),
)
_PALM = np.array([0.86, 0.62, 0.53])


@dataclass(frozen=True)
class Look:
    """What makes two pictures of one pose differ: skin, light, sleeve."""

    tone: str
    skin: Array  # (3,)
    palm: Array  # (3,)
    light: Array  # (3,) unit vector towards the lamp, camera axes
    key: Array  # (3,) colour of the lamp
    fill: Array  # (3,) colour from everywhere
    gloss: float
    sleeve: Array | None  # (3,) cloth colour, or bare forearm
    sleeve_start: float  # metres from the wrist


def random_look(rng: np.random.Generator) -> Look:
    place = rng.uniform(0, len(_TONES) - 1)
    low = int(place)
    mix = place - low
    skin = np.array(_TONES[low][1]) * (1 - mix) + np.array(_TONES[min(low + 1, len(_TONES) - 1)][1]) * mix
    skin = np.clip(skin * (1 + rng.normal(0, 0.03, 3)), 0.05, 0.98)
    light = np.array([rng.uniform(-1, 1), rng.uniform(-1.3, 0.3), -rng.uniform(0.5, 1.3)])
    warmth = rng.normal(0, 0.05)
    tint = np.array([1 + warmth, 1.0, 1 - warmth])
    power = rng.uniform(0.65, 0.95)
    cloth = np.clip(rng.uniform(0.08, 0.85) + rng.normal(0, 0.16, 3), 0.03, 0.95)
    return Look(
        tone=_TONES[round(place)][0],
        skin=skin.astype(np.float32),
        palm=(skin * 0.55 + 0.45 * (0.35 + 0.65 * skin.mean() / 0.7) * _PALM)
        .clip(0, 0.97)
        .astype(np.float32),
        light=(light / np.linalg.norm(light)).astype(np.float32),
        key=(tint * power).astype(np.float32),
        fill=((2 - tint) * rng.uniform(0.28, 0.5)).astype(np.float32),
        gloss=float(rng.uniform(0.02, 0.16)),
        sleeve=cloth.astype(np.float32) if rng.random() < 0.45 else None,
        sleeve_start=float(rng.uniform(0.055, 0.10)),
    )


def vertex_normals(vertices: Array, faces: NDArray[np.int32]) -> Array:
    """(V, 3) area-weighted unit normals."""
    corners = vertices[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    out = np.stack(
        [np.bincount(faces.ravel(), np.repeat(normal[:, c], 3), minlength=len(vertices)) for c in range(3)],
        axis=1,
    )
    return np.asarray(out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12), np.float32)


@lru_cache(maxsize=1)
def _skin_detail() -> tuple[Array, Array, NDArray[np.uint8]]:
    """Low corner, cell size and (X, Y, Z, 4) detail 0..255 of the resting hand: palm, redness, nail, crease.

    The detail depends on the resting position alone, so it is computed on a grid and looked up per pixel.
    """
    low, high, cell = np.array([-0.24, -0.05, -0.09]), np.array([0.05, 0.05, 0.12]), 0.001
    axes = [np.arange(a, b, cell) for a, b in zip(low, high, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    rest = np.stack([x, y, z], axis=-1).reshape(-1, 3).astype(np.float32)
    detail = np.zeros((len(rest), 4), np.float32)
    detail[:, 0] = np.clip(0.5 - rest[:, 1] / 0.016, 0.0, 1.0)
    for name, digit in fingers().items():
        tip, last = digit.points[3], digit.points[2]
        axis = (tip - last) / np.linalg.norm(tip - last)
        near = np.flatnonzero(np.linalg.norm(rest - (tip + digit.points[1]) / 2, axis=1) < 0.06)
        part = rest[near]
        offset = part - last
        along = offset @ axis / np.linalg.norm(tip - last)
        radial = offset - (offset @ axis)[:, None] * axis
        close = np.linalg.norm(radial, axis=1) < 0.013
        detail[near, 1] = np.maximum(detail[near, 1], close * np.clip((along - 0.3) / 0.7, 0, 1))
        side, width = np.cross(axis, digit.nail_normal), digit.radii[3] * 0.85
        raised = (radial @ digit.nail_normal > 0.2 * width) & (np.abs(radial @ side) < width)
        detail[near, 2] = np.maximum(detail[near, 2], close & raised & (along > 0.42) & (along < 0.93))
        for k in (1, 2) if name != "thumb" else (2,):
            joint = part - digit.points[k]
            inside = np.exp(-np.clip((joint**2).sum(1) - digit.radii[k] ** 2, 0, None) / 0.00004)
            detail[near, 3] = np.maximum(detail[near, 3], inside * np.exp(-((joint @ axis / 0.0012) ** 2)))
    grid = (detail * 255).astype(np.uint8).reshape(*x.shape, 4)
    return low.astype(np.float32), np.float32(cell), grid


def skin_albedo(rest: Array, look: Look) -> Array:
    """(N, 3) colour of skin points from their resting positions (N, 3): palm, knuckles, tips and nails."""
    low, cell, grid = _skin_detail()
    index = np.clip(((rest - low) / cell).astype(np.int32), 0, np.array(grid.shape[:3]) - 1)
    detail = grid[index[:, 0], index[:, 1], index[:, 2]].astype(np.float32) * np.float32(1 / 255)
    palm, red, nail, crease = (detail[:, k, None] for k in range(4))
    colour = look.skin + palm * (look.palm - look.skin) + red * np.array([0.06, -0.04, -0.05], np.float32)
    nail_colour = np.array([0.95, 0.80, 0.77], np.float32) * np.float32(0.45 + 0.55 * look.skin.mean())
    colour += 0.45 * nail * (nail_colour - colour)
    colour *= 1 - 0.16 * crease
    mottle = np.sin(rest[:, 0] * 310 + 2 * np.sin(rest[:, 2] * 270)) * np.sin(
        rest[:, 2] * 340 + rest[:, 1] * 200
    )
    return np.asarray(np.clip(colour * (1 + 0.025 * mottle[:, None]), 0.0, 1.0), np.float32)


def shade(albedo: Array, normals: Array, look: Look, gloss: float) -> Array:
    """(N, 3) shaded colour: wrapped diffuse with a red terminator, a sky gradient and a soft highlight."""
    lambert = normals @ look.light
    wrapped = np.clip((lambert + 0.25) / 1.25, 0.0, 1.0)
    terminator = np.exp(-((lambert / 0.3) ** 2)) * 0.05
    half = look.light + np.array([0.0, 0.0, -1.0])
    half /= np.linalg.norm(half)
    highlight = gloss * np.clip(normals @ half, 0.0, 1.0) ** 18
    sky = 0.85 - 0.15 * normals[:, 1]
    light = look.key * wrapped[:, None] + look.fill * sky[:, None]
    light = light + terminator[:, None] * np.array([1.0, 0.25, 0.15])
    return np.asarray(albedo * light + highlight[:, None], np.float32)


def crevices(depth: Array, radius: float) -> Array:
    """(H, W) darkening 0..1 where a surface lies behind its surroundings, from metric depth (0: nothing)."""
    hit = depth > 0
    if not hit.any():
        return np.ones_like(depth)
    near, far = depth[hit].min(), depth[hit].max()
    span = max(far - near, 1e-3)
    scaled = np.where(hit, (depth - near) / span, 1.0)
    image = Image.fromarray((scaled * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
    behind = (scaled - np.asarray(image, np.float32) / 255.0) * span
    return np.asarray(1.0 - 0.55 * np.clip(behind / 0.016, 0.0, 1.0), np.float32)
