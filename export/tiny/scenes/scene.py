"""make_picture: a seeded picture with one or two hands, its malformed twin, and all that is known of both."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from hoirt import _core
from hoirt.hands.model import HandModel, rotation_matrices
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from .background import random_background
from .malform import Surface, malform, pose_surface
from .poses import Pose, random_pose
from .shading import Look, crevices, random_look, shade, skin_albedo, vertex_normals

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Camera = tuple[float, float, float, float]  # fx, fy, cx, cy in subpixels
OVERSAMPLING = 2  # subpixels per pixel and axis


@dataclass(frozen=True)
class HandTruth:
    """One hand of a picture; rotations and shape are those of the right hand that its mirror image shows."""

    side: str  # "left" | "right"
    box: Floats  # (4,) x0, y0, x1, y1 pixels: square around the well-formed hand
    keypoints: Floats  # (21, 2) pixels
    joints: Floats  # (21, 3) metres, camera axes
    rotations: Floats  # (16, 3, 3)
    shape: Floats  # (10,)
    defects: tuple[str, ...]
    caption: str


@dataclass(frozen=True)
class Picture:
    """A well-formed picture and its malformed twin; masks and depth are at the picture's size."""

    image: Bytes  # (H, W, 3)
    malformed: Bytes  # (H, W, 3)
    depth: Bytes  # (H, W): 255 near .. 51 far per hand, 0 elsewhere (HandRefiner 1.7)
    region: Bytes  # (H, W) 0 or 1: hand without forearm, well-formed
    malformed_region: Bytes  # (H, W) 0 or 1
    distance: Floats  # (H, W) metres along the view to hand, forearm or sleeve, well-formed; 0 elsewhere
    hands: tuple[HandTruth, ...]


def _forearm(pose: Pose, rng: np.random.Generator, look: Look) -> list[tuple[Surface, bool]]:
    """Skin and, if worn, sleeve as (surface, is_cloth), in camera axes around the wrist."""

    def tube(start: float, end: float, grow: float) -> Surface:
        rings, around = 10, 28
        x = np.linspace(start, end, rings)
        angle = np.linspace(0, 2 * np.pi, around, endpoint=False)
        y_radius = (0.0205 + 0.07 * np.maximum(x, 0)) * grow
        z_radius = (0.0270 + 0.06 * np.maximum(x, 0)) * grow
        points = np.stack(
            [
                np.repeat(x, around),
                (y_radius[:, None] * np.sin(angle)).ravel(),
                (z_radius[:, None] * np.cos(angle)).ravel(),
            ],
            axis=1,
        )
        i, k = np.meshgrid(np.arange(rings - 1), np.arange(around), indexing="ij")
        a, b = i * around + k, i * around + (k + 1) % around
        c, d = a + around, b + around
        faces = np.stack([a, c, b, b, c, d], axis=-1).reshape(-1, 3).astype(np.int32)
        return Surface(points.astype(np.float32), faces, points.astype(np.float32))

    bend = rotation_matrices(np.radians([0.0, rng.normal(0, 10), rng.normal(0, 14)]))
    scale = 1.0 + 0.04 * float(pose.shape[0])
    turn = (pose.rotations[0] @ bend) * scale
    parts = [(tube(0.004, 0.42, 0.985), False)]
    if look.sleeve is not None:
        parts.append((tube(look.sleeve_start, 0.42, float(rng.uniform(1.15, 1.5))), True))
    return [
        (Surface((part.vertices @ turn.T).astype(np.float32), part.faces, part.rest), cloth)
        for part, cloth in parts
    ]


@dataclass(frozen=True)
class _Part:
    surface: Surface
    look: Look
    cloth: bool
    hand: int  # index of the hand, or -1 for an arm


def _interpolate(values: Floats, corner: NDArray[np.int32], share: Floats) -> Floats:
    """(N, 3) barycentric mean of vertex values (V, 3) at the corners (N, 3) of the faces hit."""
    return sum(values[corner[:, k]] * share[:, k, None] for k in range(3))  # type: ignore[return-value]


def _render(
    parts: list[_Part], camera: Camera, size: int
) -> tuple[Floats, Floats, NDArray[np.int32], Floats]:
    """Colour (S, S, 3), coverage (S, S), hand index (S, S) or -1, and depth (S, S), all oversampled."""
    offsets = np.cumsum([0] + [len(p.surface.vertices) for p in parts])
    vertices = np.concatenate([p.surface.vertices for p in parts])
    faces = np.concatenate([p.surface.faces + o for p, o in zip(parts, offsets[:-1], strict=True)])
    owner = np.concatenate([np.full(len(p.surface.faces), k) for k, p in enumerate(parts)])
    drawn = _core.rasterize(
        vertices,
        faces,
        intrinsics=camera,
        size=(size, size),
        outputs=("depth", "faces", "barycentrics"),
    )
    depth, ids, weights = drawn["depth"][0], drawn["faces"][0], drawn["barycentrics"][0]
    normals = np.concatenate([vertex_normals(p.surface.vertices, p.surface.faces) for p in parts])
    rest = np.concatenate([p.surface.rest for p in parts])
    hit = ids >= 0
    corner, share = faces[ids[hit]], weights[hit]
    normal = _interpolate(normals, corner, share)
    normal /= np.sqrt(np.maximum(np.einsum("nc,nc->n", normal, normal), 1e-12))[:, None]
    # Where a surface is seen from inside (an open end), light it as if it faced the camera.
    normal[normal[:, 2] > 0.15] *= -1
    place = _interpolate(rest, corner, share)
    who = owner[ids[hit]]
    colour = np.zeros((len(who), 3), np.float32)
    for k, part in enumerate(parts):
        own = who == k
        if not own.any():
            continue
        if part.cloth:
            assert part.look.sleeve is not None
            weave = 1 + 0.06 * np.sin(place[own][:, 0] * 900) * np.sin(
                np.arctan2(place[own][:, 1], place[own][:, 2]) * 40
            )
            albedo, gloss = part.look.sleeve * weave[:, None].astype(np.float32), 0.0
        else:
            albedo, gloss = skin_albedo(place[own], part.look), part.look.gloss
        colour[own] = shade(albedo, normal[own], part.look, gloss)
    picture = np.zeros((size, size, 3), np.float32)
    picture[hit] = colour
    picture *= crevices(depth, size / 64)[..., None]
    index = np.full((size, size), -1, np.int32)
    index[hit] = np.array([p.hand for p in parts], np.int32)[who]
    return picture, hit.astype(np.float32), index, depth


def _shrink(values: Floats) -> Floats:
    """Averages 2 x 2 subpixels."""
    total = values[0::2, 0::2] + values[0::2, 1::2] + values[1::2, 0::2] + values[1::2, 1::2]
    return np.asarray(total * np.float32(0.25), np.float32)


def _visible_defects(
    pose: Pose, rng: np.random.Generator, place: Callable[[Surface], Surface], camera: Camera, size: int
) -> tuple[Surface, tuple[str, ...]]:
    """A noticeably malformed hand: its silhouette or its depth differs from the well-formed one's."""
    coarse = tuple(value / 4 for value in camera)  # a quarter of the picture's resolution is enough to tell

    def depth_of(surface: Surface) -> Floats:
        placed = place(surface)
        drawn = _core.rasterize(placed.vertices, placed.faces, intrinsics=coarse, size=(size // 4, size // 4))
        return np.asarray(drawn["depth"][0])

    good = depth_of(pose_surface(pose))
    best: tuple[float, Surface, tuple[str, ...]] | None = None
    for _ in range(6):
        surface, kinds = malform(pose, rng)
        bad = depth_of(surface)
        changed = ((good > 0) != (bad > 0)).sum() + (
            (good > 0) & (bad > 0) & (np.abs(good - bad) > 0.01)
        ).sum()
        share = float(changed) / max(int((good > 0).sum()), 1)
        if best is None or share > best[0]:
            best = (share, surface, kinds)
        if share > 0.10:
            break
    assert best is not None
    return best[1], best[2]


def _encode_depth(depth: Floats, index: NDArray[np.int32], count: int) -> Bytes:
    """Per hand 255 (near) .. 51 (far), 0 elsewhere, sampled at every second subpixel."""
    out = np.zeros(depth.shape, np.float32)
    for hand in range(count):
        own = index == hand
        if own.any():
            near, far = depth[own].min(), depth[own].max()
            out[own] = 255.0 * (1.0 - 0.8 * (depth[own] - near) / max(far - near, 1e-6))
    return out[1::OVERSAMPLING, 1::OVERSAMPLING].astype(np.uint8)


def make_picture(seed: int, *, size: int = 256, hands: int | None = None) -> Picture:
    """The picture of a seed: `size` x `size` pixels, one or two hands (None: drawn, one in four has two)."""
    rng = np.random.default_rng(np.random.SeedSequence([0x40A1D, seed]))
    count = hands if hands is not None else (2 if rng.random() < 0.25 else 1)
    focal = 1.9 * size * OVERSAMPLING
    middle = size * OVERSAMPLING / 2.0
    camera = (focal, focal, middle, middle)
    base = random_look(rng)
    good: list[_Part] = []
    bad: list[_Part] = []
    truths: list[HandTruth] = []
    depth_map, distance = np.zeros((size, size), np.uint8), np.zeros((size, size), np.float32)
    model = HandModel.load("right")
    sides = [str(s) for s in rng.permutation(["left", "right"])]
    for h in range(count):
        pose = random_pose(rng)
        left = sides[h] == "left"
        flip = np.array([-1.0 if left else 1.0, 1.0, 1.0], np.float32)
        posed = model.posed(pose.rotations[None], pose.shape[None])
        extent = np.ptp(posed.vertices[0][:, :2] * flip[:2], axis=0).max()
        target = rng.uniform(0.40, 0.66) if count == 1 else rng.uniform(0.32, 0.42)
        distance = focal * extent / (target * size * OVERSAMPLING)
        spread = 0.16 if count == 1 else 0.05
        x = 0.5 + rng.uniform(-spread, spread) + (0.0 if count == 1 else (-0.235 if h == 0 else 0.235))
        y = 0.5 + rng.uniform(-0.13, 0.10)
        centre = posed.vertices[0] * flip
        shift = (
            np.array([(x - 0.5) * size * OVERSAMPLING, (y - 0.5) * size * OVERSAMPLING]) * distance / focal
        )
        move = np.array([*(shift - (centre[:, :2].min(0) + centre[:, :2].max(0)) / 2), distance], np.float32)

        def place(surface: Surface, flip: Floats = flip, move: Floats = move, left: bool = left) -> Surface:
            faces = surface.faces[:, ::-1] if left else surface.faces
            return Surface(surface.vertices * flip + move, faces, surface.rest)

        arm = [_Part(place(part), base, cloth, -1) for part, cloth in _forearm(pose, rng, base)]
        good += [_Part(place(pose_surface(pose)), base, False, h), *arm]
        wrong, defects = _visible_defects(pose, rng, place, camera, size * OVERSAMPLING)
        bad += [_Part(place(wrong), base, False, h), *arm]
        joints = posed.keypoints[0] * flip + move
        keypoints = (joints[:, :2] / joints[:, 2:] * focal + middle) / OVERSAMPLING
        points = posed.vertices[0] * flip + move
        screen = (points[:, :2] / points[:, 2:] * focal + middle) / OVERSAMPLING
        low, high = screen.min(0), screen.max(0)
        side = float((high - low).max())
        box = np.concatenate([(low + high) / 2 - side / 2, (low + high) / 2 + side / 2])
        caption = f"{pose.gesture}, {base.tone} skin, {sides[h]} hand"
        truths.append(
            HandTruth(
                sides[h],
                box.astype(np.float32),
                keypoints.astype(np.float32),
                joints.astype(np.float32),
                pose.rotations,
                pose.shape,
                defects,
                caption,
            )
        )

    scene = random_background(rng, size, size)
    noise = rng.normal(0.0, rng.uniform(0.0, 0.012), (size, size, 3)).astype(np.float32)
    softness = float(rng.uniform(0.0, 0.7))
    images, regions = [], []
    for parts in (good, bad):
        colour, cover, index, depth = _render(parts, camera, size * OVERSAMPLING)
        blend = scene * (1 - _shrink(cover)[..., None]) + _shrink(colour)
        soft = Image.fromarray((np.clip(blend, 0, 1) * 255).astype(np.uint8)).filter(
            ImageFilter.GaussianBlur(softness)
        )
        images.append(
            (np.clip(np.asarray(soft, np.float32) / 255 + noise, 0, 1) * 255 + 0.5).astype(np.uint8)
        )
        regions.append((_shrink((index >= 0).astype(np.float32)) > 0.5).astype(np.uint8))
        if parts is good:
            depth_map = _encode_depth(depth, index, count)
            distance = depth[1::OVERSAMPLING, 1::OVERSAMPLING].copy()
    return Picture(images[0], images[1], depth_map, *regions, distance, tuple(truths))
