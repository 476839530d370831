"""Hand meshes as the depth map that conditions the network: 255 nearest .. 51 farthest, 0 background."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hoirt.hands.hand import Hand
from hoirt.hands.window import Window
from hoirt.render.encode import hand_depth


def draw_depth(hands: list[Hand], window: Window, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Depth uint8 `size` (h, w) of `hands` seen through `window` of the picture; the nearer hand covers the
    other.
    """
    if not hands:
        return np.zeros(size, np.uint8)
    far_to_near = sorted(hands, key=lambda hand: hand.apparent_scale)
    depths = np.stack([metric_depth(hand, window, size) for hand in far_to_near])
    drawn: NDArray[np.uint8] = hand_depth(depths[None], rounding="nearest")[0]
    return drawn


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
