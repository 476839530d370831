"""Hands drawn with OpenCV itself, as PAM and ControlNet call it; independent of hoirt."""

from __future__ import annotations

import colorsys
import math

import cv2
import numpy as np

LIMBS = [(0 if k % 4 == 0 else k, k + 1) for k in range(20)]
LEFT = ((139, 53, 255), (0, 56, 255), (43, 140, 237), (37, 168, 36), (147, 147, 0), (70, 17, 145))
RIGHT = ((255, 0, 0), (255, 85, 85), (255, 170, 170), (255, 255, 255), (200, 200, 200), (150, 150, 150))


def pam(
    picture: np.ndarray,
    joints: np.ndarray,
    half_widths: tuple[int, int],
    fingers: tuple[tuple[int, int, int], ...] = LEFT,
    reverse: bool = False,
) -> np.ndarray:
    """PAM's keypoints of one hand (21, 2) on a copy of the picture."""
    picture = picture.copy()
    if (joints == -1).any():
        return picture
    points = np.round(joints).astype(np.int32).tolist()
    colours = [[v + 35 * (k % 4) for v in fingers[k // 4]] for k in range(21)]
    for k, (x, y) in enumerate(points):
        cv2.circle(picture, (x, y), 3, colours[k], thickness=-1)
    for k in reversed(range(20)) if reverse else range(20):
        (x1, y1), (x2, y2) = points[LIMBS[k][0]], points[LIMBS[k][1]]
        length = math.sqrt((x1 - x2) ** 2 + (y1 - y2) ** 2)
        if not 5 < length < 150:
            continue
        angle = int(math.degrees(math.atan2(y1 - y2, x1 - x2)))
        centre = (int((x1 + x2) / 2), int((y1 + y2) / 2))
        axes = (int(length / 2), half_widths[0] if k < 4 else half_widths[1])
        cv2.fillConvexPoly(picture, cv2.ellipse2Poly(centre, axes, angle, 0, 360, 1), color=colours[k])
    return picture


def openpose(picture: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """ControlNet's hand (21, 2) on a copy of the picture."""
    picture = picture.copy()
    points = [(int(x), int(y)) for x, y in joints]
    for k, (a, b) in enumerate(LIMBS):
        if min(*points[a], *points[b]) > 0.01:
            colour = [255.0 * v for v in matplotlib_hsv(k / 20.0)]
            cv2.line(picture, points[a], points[b], colour, thickness=2)
    for point in points:
        if min(point) > 0.01:
            cv2.circle(picture, point, 4, (0, 0, 255), thickness=-1)
    return picture


def matplotlib_hsv(hue: float) -> list[float]:
    """The saturated colour of a hue 0..1, as matplotlib computes it."""
    from matplotlib.colors import hsv_to_rgb

    rgb = hsv_to_rgb([hue, 1.0, 1.0])
    assert np.allclose(rgb, colorsys.hsv_to_rgb(hue, 1.0, 1.0))
    return list(rgb)
