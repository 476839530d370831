"""Writes python/hoirt/hands/hand.safetensors: the constants of the procedural hand, with MANO's interface.

    python -m export.hand.build

Arrays: template (V, 3), faces (F, 3), weights (V, 16), shape_directions (V, 3, 10), joint_regressor (16, V),
keypoint_regressor (21, V), parents (16,), flexion_axes (16, 3), abduction_axes (16, 3).
"""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from . import surface
from .anatomy import FINGERS, PARENTS, UP, Array, fingers, joints

OUTPUT = Path(__file__).parents[2] / "python" / "hoirt" / "hands" / "hand.safetensors"


def _smoothstep(value: Array, low: float, high: float) -> Array:
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def _along(points: Array, chain: Array, k: int) -> Array:
    """Signed length (V,) of points along bone k of a finger, from the bone's first joint."""
    axis = chain[k + 1] - chain[k]
    return (points - chain[k]) @ (axis / np.linalg.norm(axis))


def _axis_distance(points: Array, chain: Array) -> Array:
    """Distance (V,) to the polyline of a finger, continued straight on at its base."""
    nearest = np.full(len(points), np.inf)
    for k in range(3):
        axis = chain[k + 1] - chain[k]
        length = np.linalg.norm(axis)
        t = _along(points, chain, k)
        t = np.clip(t, -np.inf if k == 0 else 0.0, length)
        nearest = np.minimum(nearest, np.linalg.norm(points - chain[k] - t[:, None] * axis / length, axis=1))
    return nearest


def skin_weights(points: Array) -> Array:
    """(V, 16) linear blend skinning weights; rows sum to one."""
    digits = fingers()
    distances = np.stack([_axis_distance(points, digits[name].points) for name in FINGERS], axis=1)
    closeness = np.exp(-((distances - distances.min(axis=1, keepdims=True)) / 0.004))
    closeness /= closeness.sum(axis=1, keepdims=True)
    weights = np.zeros((len(points), 16))
    for f, name in enumerate(FINGERS):
        chain, radii = digits[name].points, digits[name].radii
        # How far each joint's rotation has taken hold: 0 before the joint, 1 after it.
        spread = (-0.010, 0.022) if name == "thumb" else (-0.009, 0.012)
        held = [_smoothstep(_along(points, chain, 0), *spread) * closeness[:, f]]
        held += [
            held[0] * _smoothstep(_along(points, chain, k), -0.8 * radii[k], 0.8 * radii[k]) for k in (1, 2)
        ]
        first = 1 + 3 * f
        weights[:, first] = held[0] - held[1]
        weights[:, first + 1] = held[1] - held[2]
        weights[:, first + 2] = held[2]
    weights = np.clip(weights, 0.0, None)
    weights[:, 0] = np.clip(1.0 - weights[:, 1:].sum(axis=1), 0.0, None)
    return weights / weights.sum(axis=1, keepdims=True)


def shape_directions(points: Array, weights: Array) -> tuple[Array, Array]:
    """Displacement (m) of vertices (V, 3, 10) and joints (16, 3, 10) per unit of each shape parameter."""
    digits, rest = fingers(), joints()
    everything = np.concatenate([points, rest])
    # A joint moves with the bone that it ends, not with the bone that it starts.
    parent_weights = np.eye(16)[np.where(PARENTS < 0, 0, PARENTS)]
    influence = np.concatenate([weights, parent_weights])
    out = np.zeros((len(everything), 3, 10))

    def stretch(names: tuple[str, ...], amount: float) -> Array:
        moved = np.zeros_like(everything)
        for name in names:
            first, chain = 1 + 3 * FINGERS.index(name), digits[name].points
            for k in range(3):
                axis = chain[k + 1] - chain[k]
                t = np.clip(_along(everything, chain, k) / np.linalg.norm(axis), 0.0, 1.2)
                here = influence[:, first + k]
                beyond = influence[:, first + k + 1 : first + 3].sum(axis=1)
                moved += amount * (here * t + beyond)[:, None] * axis
        return moved

    def thicken(names: tuple[str, ...], at_base: float, at_tip: float) -> Array:
        moved = np.zeros_like(everything)
        for name in names:
            first, chain = 1 + 3 * FINGERS.index(name), digits[name].points
            for k in range(3):
                axis = (chain[k + 1] - chain[k]) / np.linalg.norm(chain[k + 1] - chain[k])
                offset = everything - chain[k]
                radial = offset - (offset @ axis)[:, None] * axis
                amount = at_base + (at_tip - at_base) * k / 2.0
                moved += amount * influence[:, first + k, None] * radial
        return moved

    def palm_scale(axis: int, amount: float) -> Array:
        """Scales the palm along one axis; each finger goes along with its first joint."""
        moved = np.zeros_like(everything)
        moved[:, axis] = influence[:, 0] * everything[:, axis]
        for f in range(5):
            moved[:, axis] += influence[:, 1 + 3 * f : 4 + 3 * f].sum(axis=1) * rest[1 + 3 * f, axis]
        return amount * moved

    long_fingers = ("index", "middle", "ring", "pinky")
    out[:, :, 0] = 0.04 * everything
    out[:, :, 1] = stretch(long_fingers, 0.05)
    out[:, :, 2] = thicken(FINGERS, 0.08, 0.08)
    out[:, :, 3] = palm_scale(2, 0.05)
    out[:, :, 4] = palm_scale(0, 0.05)
    out[:, :, 5] = palm_scale(1, 0.08)
    out[:, :, 6] = stretch(("thumb",), 0.06)
    out[:, :, 7] = stretch(("index",), 0.04) - stretch(("ring",), 0.04)
    out[:, :, 8] = stretch(("pinky",), 0.07)
    out[:, :, 9] = thicken(FINGERS, 0.04, -0.07)
    return out[: len(points)], out[len(points) :]


def joint_regressor(points: Array, directions: Array, joint_directions: Array) -> Array:
    """(16, V) weights that give every joint, at rest and in every shape, from nearby vertices."""
    rest = joints()
    regressor = np.zeros((16, len(points)))
    for j in range(16):
        near = np.argsort(np.linalg.norm(points - rest[j], axis=1))[:200]
        rows = [np.ones(len(near)), *points[near].T, *directions[near].reshape(len(near), -1).T]
        wanted = np.concatenate([[1.0], rest[j], joint_directions[j].reshape(-1)])
        regressor[j, near] = np.linalg.lstsq(np.stack(rows), wanted, rcond=1e-9)[0]
    return regressor


def keypoint_regressor(points: Array, regressor: Array) -> Array:
    """(21, V): wrist, then thumb, index, middle, ring, pinky with three joints and the tip vertex each."""
    rows = [regressor[0]]
    for name in ("thumb", "index", "middle", "ring", "pinky"):
        first = 1 + 3 * FINGERS.index(name)
        tip = np.argmin(np.linalg.norm(points - fingers()[name].points[3], axis=1))
        rows += [*regressor[first : first + 3], np.eye(len(points))[tip]]
    return np.stack(rows)


def rotation_axes() -> tuple[Array, Array]:
    """(16, 3) unit axes: a positive angle flexes towards the palm, or spreads towards the thumb side."""
    flexion, abduction = np.zeros((16, 3)), np.zeros((16, 3))
    flexion[0], abduction[0] = np.array([0.0, 0.0, 1.0]), UP
    for f, name in enumerate(FINGERS):
        digit = fingers()[name]
        for k in range(3):
            direction = digit.points[k + 1] - digit.points[k]
            axis = np.cross(direction, -digit.nail_normal)
            flexion[1 + 3 * f + k] = axis / np.linalg.norm(axis)
            abduction[1 + 3 * f + k] = digit.nail_normal
    return flexion, abduction


def main() -> None:
    vertices, faces = surface.mesh()
    points = vertices.astype(np.float64)
    weights = skin_weights(points)
    directions, joint_directions = shape_directions(points, weights)
    regressor = joint_regressor(points, directions, joint_directions)
    error = np.abs(regressor @ points - joints()).max()
    error = max(error, np.abs(np.einsum("jv,vck->jck", regressor, directions) - joint_directions).max())
    flexion, abduction = rotation_axes()
    arrays = {
        "template": vertices,
        "weights": weights,
        "shape_directions": directions,
        "joint_regressor": regressor,
        "keypoint_regressor": keypoint_regressor(points, regressor),
        "flexion_axes": flexion,
        "abduction_axes": abduction,
    }
    tensors = {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}
    tensors |= {"faces": faces, "parents": PARENTS}
    save_file(tensors, OUTPUT, metadata={"licence": "Apache-2.0", "source": "export/hand/build.py"})
    print(
        f"{OUTPUT}: {len(vertices)} vertices, {len(faces)} faces, joint regressor error {error * 1e3:.4f} mm"
    )


if __name__ == "__main__":
    main()
