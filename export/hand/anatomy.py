"""Measures of the procedural hand: joints, bone lengths and radii of a right hand at rest, in metres.

Axes as in MANO's right hand: fingers along -x, back of the hand along +y, thumb along +z; the wrist at 0.
Lengths follow the usual anthropometric means (hand length about 0.19 m, breadth about 0.085 m).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# MANO's joint order: wrist, then three joints for each finger in this order.
FINGERS = ("index", "middle", "pinky", "ring", "thumb")
PARENTS = np.array([-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14], np.int32)
UP = np.array([0.0, 1.0, 0.0])


@dataclass(frozen=True)
class Finger:
    """One digit: its chain of four points (three joints and the tip) and the radius at each."""

    name: str
    points: Array  # (4, 3) metres
    radii: Array  # (4,) metres
    nail_normal: Array  # (3,) unit vector out of the finger nail


def _at(forward: float, side: float, up: float) -> Array:
    return np.array([-forward, up, side])


def _chain(base: Array, yaw_degrees: float, drop: float, lengths: tuple[float, ...]) -> Array:
    yaw = np.radians(yaw_degrees)
    direction = _at(np.cos(yaw), np.sin(yaw), -drop)
    direction /= np.linalg.norm(direction)
    return np.stack([base + direction * reach for reach in np.cumsum((0.0, *lengths))])


def _finger(
    name: str, base: Array, yaw: float, drop: float, lengths: tuple[float, ...], radii: tuple[float, ...]
) -> Finger:
    points = _chain(base, yaw, drop, lengths)
    direction = points[1] - points[0]
    direction /= np.linalg.norm(direction)
    out = UP if name != "thumb" else 0.55 * UP + 0.83 * np.cross(direction, UP)
    out = out - direction * (out @ direction)
    return Finger(name, points, np.array(radii), out / np.linalg.norm(out))


def fingers() -> dict[str, Finger]:
    """The five digits at rest, slightly spread, keyed by name in MANO order."""
    digits = (
        _finger(
            "index",
            _at(0.089, 0.025, 0.000),
            6.0,
            0.03,
            (0.041, 0.025, 0.022),
            (0.0108, 0.0090, 0.0078, 0.0064),
        ),
        _finger(
            "middle",
            _at(0.092, 0.003, 0.003),
            0.0,
            0.03,
            (0.045, 0.029, 0.023),
            (0.0110, 0.0092, 0.0080, 0.0066),
        ),
        _finger(
            "pinky",
            _at(0.075, -0.036, -0.004),
            -17.0,
            0.03,
            (0.032, 0.020, 0.019),
            (0.0092, 0.0076, 0.0068, 0.0056),
        ),
        _finger(
            "ring",
            _at(0.086, -0.018, 0.001),
            -8.0,
            0.03,
            (0.041, 0.027, 0.022),
            (0.0104, 0.0088, 0.0076, 0.0063),
        ),
        _finger(
            "thumb",
            _at(0.020, 0.024, -0.007),
            47.0,
            0.20,
            (0.044, 0.033, 0.027),
            (0.0150, 0.0122, 0.0108, 0.0078),
        ),
    )
    return {digit.name: digit for digit in digits}


def joints() -> Array:
    """(16, 3) joint positions at rest in MANO order."""
    return np.concatenate([np.zeros((1, 3)), *(digit.points[:3] for digit in fingers().values())])
