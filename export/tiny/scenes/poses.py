"""Random hand poses: gestures with jitter, and the view from which the hand is seen."""

from dataclasses import dataclass

import numpy as np
from hoirt.hands.model import HandModel, rotation_matrices
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FINGERS = ("index", "middle", "pinky", "ring", "thumb")  # MANO's order

# Curl of index, middle, ring, pinky, thumb: 0 straight, 1 closed; and how often the gesture is drawn.
_GESTURES: dict[str, tuple[tuple[float, float, float, float, float], float]] = {
    "an open hand": ((0.04, 0.04, 0.04, 0.04, 0.05), 5.0),
    "a relaxed hand": ((0.28, 0.32, 0.36, 0.40, 0.25), 4.0),
    "a pointing hand": ((0.03, 0.80, 0.82, 0.84, 0.60), 2.0),
    "a victory sign": ((0.03, 0.03, 0.82, 0.84, 0.70), 2.0),
    "three raised fingers": ((0.03, 0.03, 0.04, 0.84, 0.75), 1.5),
    "four raised fingers": ((0.03, 0.03, 0.03, 0.04, 0.80), 1.5),
    "a half closed hand": ((0.55, 0.58, 0.60, 0.62, 0.40), 1.5),
    "a thumb up": ((0.80, 0.82, 0.84, 0.84, 0.00), 1.0),
}
_FLEXION = np.radians(
    [[78.0, 95.0, 55.0]] * 4 + [[22.0, 38.0, 60.0]]
)  # at curl 1: three joints of each digit
_SPREAD = np.radians([7.0, 0.5, -6.0, -11.0, 0.0])


@dataclass(frozen=True)
class Pose:
    """rotations (16, 3, 3), entry 0 from resting right hand to camera axes; shape (10,); gesture: caption."""

    rotations: NDArray[np.float32]
    shape: NDArray[np.float32]
    gesture: str


def _about(axis: str, degrees: float) -> Floats:
    vector = np.zeros(3)
    vector["xyz".index(axis)] = np.radians(degrees)
    return rotation_matrices(vector).astype(np.float64)


def _view(rng: np.random.Generator) -> Floats:
    """Rotation from the resting hand to OpenCV camera axes; fingers mostly up, palm or back to the camera."""
    dorsal = np.array([[0.0, 0, -1], [1, 0, 0], [0, -1, 0]])
    palmar = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    facing = dorsal if rng.random() < 0.5 else palmar
    yaw, pitch = rng.normal(0.0, 22.0), rng.normal(0.0, 20.0)
    roll = np.clip(rng.normal(0.0, 32.0), -95.0, 95.0)
    return (
        _about("z", roll) @ _about("x", np.clip(pitch, -50, 50)) @ _about("y", np.clip(yaw, -60, 60)) @ facing
    )


def finger_rotations(model: HandModel, flexion: Floats, abduction: Floats) -> NDArray[np.float32]:
    """(16, 3, 3) from flexion (5, 3), abduction (5,) radians, digits as in `_GESTURES`; entry 0: identity."""
    vectors = np.zeros((16, 3))
    spread = np.zeros((16, 3))
    for row, name in enumerate(("index", "middle", "ring", "pinky", "thumb")):
        first = 1 + 3 * FINGERS.index(name)
        vectors[first : first + 3] = model.flexion_axes[first : first + 3] * flexion[row, :, None]
        spread[first] = model.abduction_axes[first] * abduction[row]
    return rotation_matrices(spread) @ rotation_matrices(vectors)


def random_pose(rng: np.random.Generator) -> Pose:
    """A plausible right hand; every joint stays inside its natural range."""
    names = list(_GESTURES)
    weights = np.array([_GESTURES[name][1] for name in names])
    gesture = names[rng.choice(len(names), p=weights / weights.sum())]
    curl = np.array(_GESTURES[gesture][0])
    curl = np.clip(curl + rng.normal(0.0, 0.06, 5) + rng.normal(0.0, 0.04), -0.06, 0.88)
    flexion = _FLEXION * curl[:, None] * rng.uniform(0.85, 1.1, (5, 3))
    abduction = _SPREAD * rng.uniform(-0.35, 1.2) + np.radians(rng.normal(0.0, 1.2, 5))
    # Closed fingers cannot spread, and a closed thumb lies across the palm.
    abduction *= 1.0 - np.clip(curl, 0.0, 1.0)
    abduction[4] = np.radians(rng.uniform(-22.0, 8.0)) - np.radians(28.0) * max(curl[4], 0.0)
    rotations = finger_rotations(HandModel.load("right"), flexion, abduction)
    rotations[0] = _view(rng)
    shape = np.clip(rng.normal(0.0, 1.0, 10), -2.0, 2.0)
    return Pose(rotations, shape.astype(np.float32), gesture)
