"""Hand meshes as the depth map that conditions the network: 255 nearest .. 51 farthest, 0 background."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hoirt.hands.hand import Hand
from hoirt.hands.window import Window

if TYPE_CHECKING:
    from hoirt._core import Device


def draw_depth(hands: list[Hand], window: Window, size: tuple[int, int], device: Device | None = None) -> Any:
    """Depth uint8 `size` (h, w) of `hands` seen through `window` of the picture; the nearer hand covers the
    other. On a GPU as `device` it is drawn there, and a DeviceTensor.
    """
    from hoirt import _core

    if not hands:
        return np.zeros(size, np.uint8) if device is None else device.zeros(size, "uint8")
    far_to_near = sorted(hands, key=lambda hand: hand.apparent_scale)
    return _core.draw_depth(
        [(hand.vertices, hand.faces) for hand in far_to_near],
        intrinsics=[_intrinsics(hand, window, size) for hand in far_to_near],
        size=size,
        device=device,
    )


def metric_depth(hand: Hand, window: Window, size: tuple[int, int]) -> NDArray[np.float32]:
    """Metres along z, float32 `size` (h, w), 0 where the hand is not. Back faces (inside the wrist) are not
    drawn.
    """
    from hoirt import _core

    drawn = _core.rasterize(
        hand.vertices,
        hand.faces,
        intrinsics=_intrinsics(hand, window, size),
        size=size,
        cull_back_faces=True,
    )
    return np.asarray(drawn["depth"][0])


def _intrinsics(hand: Hand, window: Window, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy of the hand's camera in pixels of the window at `size`."""
    scale_x, scale_y = size[1] / window.width, size[0] / window.height
    camera = hand.camera
    return (
        camera.fx * scale_x,
        camera.fy * scale_y,
        (camera.cx - window.left) * scale_x,
        (camera.cy - window.top) * scale_y,
    )
