"""Hand meshes as the depth map that conditions the network: 255 nearest .. 51 farthest, 0 background."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hoirt.hands.hand import Hand
from hoirt.hands.window import Window


def draw_depth(hands: list[Hand], window: Window, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Depth uint8 `size` (h, w) of `hands` seen through `window` of the picture; the nearer hand covers the
    other.
    """
    canvas = np.zeros(size, np.uint8)
    for hand in sorted(hands, key=lambda hand: hand.apparent_scale):
        depth = encode_depth(metric_depth(hand, window, size))
        np.copyto(canvas, depth, where=depth > 0)
    return canvas


def metric_depth(hand: Hand, window: Window, size: tuple[int, int]) -> NDArray[np.float32]:
    """Metres along z, float32 `size` (h, w), 0 where the hand is not. Back faces (inside the wrist) are not
    drawn.
    """
    from hoirt import _core

    scale_x, scale_y = size[1] / window.width, size[0] / window.height
    camera = hand.camera
    intrinsics = (
        camera.fx * scale_x,
        camera.fy * scale_y,
        (camera.cx - window.left) * scale_x,
        (camera.cy - window.top) * scale_y,
    )
    drawn = _core.rasterize(hand.vertices, hand.faces, intrinsics=intrinsics, size=size, cull_back_faces=True)
    return np.asarray(drawn["depth"][0])


def encode_depth(depth: NDArray[np.float32]) -> NDArray[np.uint8]:
    """uint8 255 (1 - 0.8 (z - nearest) / (farthest - nearest)) of metric `depth` (h, w), 0 staying 0
    (HandRefiner).
    """
    hit = depth > 0
    if not hit.any():
        return np.zeros(depth.shape, np.uint8)
    near, far = float(depth[hit].min()), float(depth[hit].max())
    span = far - near if far > near else 1.0
    return np.where(hit, np.rint(255.0 * (1.0 - 0.8 * (depth - near) / span)), 0).astype(np.uint8)
