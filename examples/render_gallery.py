"""Renders a hand around a can in every style: the pictures of docs/rendering.md.

usage: python examples/render_gallery.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import hoirt
import numpy as np
from hoirt.hands.model import HandModel
from hoirt.imaging import save
from hoirt.render.draw import draw_hand

SIZE = (180, 240)
STYLES = ("handrefiner", "pam-depth", "pam-segmentation", "keypoints", "openpose", "normals", "silhouette")
MARKS = np.array([[0, 220, 0], [255, 160, 0], [255, 0, 60], [90, 90, 90]], np.uint8)  # by occlusion state


def grasping_hand() -> hoirt.Mesh:
    """hoirt's own right hand with its fingers bent, 16 joints in MANO's order; the palm faces -y."""
    model = HandModel.load("right")
    angles = np.zeros(16)
    angles[1:13] = np.tile([0.55, 0.75, 0.5], 4)  # index, middle, little, ring; root to tip
    angles[13:] = 0.15, 0.25, 0.35  # thumb
    posed = model((angles[:, None] * model.flexion_axes).ravel())
    return hoirt.Mesh(posed.vertices, model.faces, joints=posed.keypoints, name="hand")


def can(radius: float = 0.03, height: float = 0.12, sides: int = 64) -> hoirt.Mesh:
    """A closed cylinder along z, of category 10 (DexYCB's potted meat can)."""
    turn = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    ring = np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1)
    low, high = (np.c_[ring, np.full(sides, z)] for z in (-height / 2, height / 2))
    vertices = np.concatenate([low, high, [[0, 0, -height / 2], [0, 0, height / 2]]])
    here = np.arange(sides)
    there = (here + 1) % sides
    faces = np.concatenate(
        [
            np.stack([here, there, there + sides], axis=1),
            np.stack([here, there + sides, here + sides], axis=1),
            np.stack([there, here, np.full(sides, 2 * sides)], axis=1),
            np.stack([here + sides, there + sides, np.full(sides, 2 * sides + 1)], axis=1),
        ]
    )
    pose = np.eye(4)
    pose[:3, 3] = -0.1, -0.052, 0.0
    return hoirt.Mesh(vertices, faces, pose, category=10, name="can")


def marked(seen: hoirt.Occlusion, pixels: np.ndarray) -> np.ndarray:
    """The bones, and on each joint a square: green visible, orange hidden by the hand, red by the can."""
    picture = draw_hand(pixels, SIZE, style="openpose") // 3
    for (x, y), state in zip(pixels.astype(int), seen.state[0, 0], strict=True):
        picture[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4] = MARKS[state]
    return picture


def main(folder: Path) -> None:
    """Writes render_STYLE.png for every style, and render_occlusion.png."""
    folder.mkdir(parents=True, exist_ok=True)
    meshes = [grasping_hand(), can()]
    points = np.concatenate([meshes[0].vertices[0], can().vertices + can().poses[:3, 3]])
    wide = hoirt.View.around(points, SIZE, towards=(0.3, -0.6, -0.7), up=(-1, 0, 0), angle=30)
    view = hoirt.View(wide.intrinsics * [1.5, 1.5, 1, 1], wide.extrinsics, SIZE)
    modes = ("depth", "segmentation", "keypoints", "normals", "silhouette")
    maps = hoirt.render(meshes, view, modes=modes)
    for style in STYLES:
        options = {"axes": "opengl"} if style == "normals" else {}
        print(save(maps.picture(style, **options)[0], folder / f"render_{style}.png"))
    seen = hoirt.joint_occlusion(meshes, view)
    print(save(marked(seen, maps.keypoints[0, 0]), folder / "render_occlusion.png"))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) == 2 else sys.exit(__doc__))
