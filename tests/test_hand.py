"""The procedural hand: MANO's interface, linear blend skinning, shape, mirror image, surface."""

import numpy as np
import pytest
import trimesh
from hoirt import InputError, _core
from hoirt.hands.model import HandModel, rotation_matrices
from hypothesis import given, settings
from hypothesis import strategies as st

MANO_PARENTS = [-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14]


@pytest.fixture(scope="module")
def hand() -> HandModel:
    return HandModel.load("right")


def reference_pose(hand: HandModel, pose: np.ndarray, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Skinning of one hand by 4 x 4 matrices in float64, written apart from the C++ code."""
    from scipy.spatial.transform import Rotation

    rest = hand.template.astype(np.float64) + hand.shape_directions.astype(np.float64) @ shape
    joints = hand.joint_regressor.astype(np.float64) @ rest
    turns = Rotation.from_rotvec(pose.reshape(16, 3)).as_matrix()
    world = np.zeros((16, 4, 4))
    for j, parent in enumerate(MANO_PARENTS):
        local = np.eye(4)
        local[:3, :3] = turns[j]
        local[:3, 3] = joints[j] - (joints[parent] if parent >= 0 else 0)
        world[j] = local if parent < 0 else world[parent] @ local
    inverse_rest = np.tile(np.eye(4), (16, 1, 1))
    inverse_rest[:, :3, 3] = -joints
    blend = np.einsum("vj,jab->vab", hand.weights.astype(np.float64), world @ inverse_rest)
    homogeneous = np.concatenate([rest, np.ones((len(rest), 1))], axis=1)
    return np.einsum("vab,vb->va", blend, homogeneous)[:, :3], world[:, :3, 3]


@pytest.mark.parametrize("side", ["right", "left"])
def test_skinning_equals_float64_reference(side: str) -> None:
    model = HandModel.load(side)
    rng = np.random.default_rng(1)
    poses, shapes = rng.normal(0, 0.6, (8, 48)), rng.normal(0, 1.5, (8, 10))
    posed = model(poses, shapes)
    for k in range(8):
        vertices, joints = reference_pose(model, poses[k], shapes[k])
        assert np.abs(posed.vertices[k] - vertices).max() <= 1e-5
        assert np.abs(posed.joints[k] - joints).max() <= 1e-5


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_rigid_motion_keeps_lengths(seed: int) -> None:
    """Turning the wrist moves every vertex rigidly about it."""
    model = HandModel.load("right")
    pose = np.zeros(48)
    pose[:3] = np.random.default_rng(seed).normal(0, 2, 3)
    still, turned = model(np.zeros(48)), model(pose)
    root = still.joints[0, 0]
    before = np.linalg.norm(still.vertices[0] - root, axis=1)
    after = np.linalg.norm(turned.vertices[0] - root, axis=1)
    np.testing.assert_allclose(after, before, atol=1e-6)


def test_interface_is_manos(hand: HandModel) -> None:
    assert hand.parents.tolist() == MANO_PARENTS
    assert hand.weights.shape == (len(hand.template), 16)
    np.testing.assert_allclose(hand.weights.sum(axis=1), 1.0, atol=1e-5)
    assert (hand.weights >= 0).all()
    assert hand.keypoint_regressor.shape == (21, len(hand.template))
    posed = hand(np.zeros(48))
    assert posed.vertices.shape == (1, len(hand.template), 3)
    assert posed.joints.shape == (1, 16, 3)
    assert posed.keypoints.shape == (1, 21, 3)


def test_regressors_give_joints_at_rest_for_every_shape(hand: HandModel) -> None:
    shape = np.random.default_rng(2).normal(0, 2, 10).astype(np.float32)
    posed = hand(np.zeros(48), shape)
    regressed = hand.keypoint_regressor @ posed.vertices[0]
    np.testing.assert_allclose(posed.keypoints[0], regressed, atol=1e-5)


def test_surface_is_closed_and_one_piece(hand: HandModel) -> None:
    surface = trimesh.Trimesh(hand.template, hand.faces, process=False)
    assert surface.is_watertight
    assert surface.is_winding_consistent
    assert surface.body_count == 1
    assert 2e-4 < surface.volume < 6e-4  # a hand has about 0.3 to 0.4 litres


def test_five_separate_fingers(hand: HandModel) -> None:
    """A cut across the fingers shows four loops, and the tips lie far apart."""
    surface = trimesh.Trimesh(hand.template, hand.faces, process=False)
    section = surface.section(plane_origin=[-0.125, 0, 0], plane_normal=[1, 0, 0])
    assert len(section.entities) == 4
    tips = hand(np.zeros(48)).keypoints[0, [4, 8, 12, 16, 20]]
    distances = np.linalg.norm(tips[:, None] - tips[None], axis=2) + np.eye(5)
    assert distances.min() > 0.02


def test_left_is_the_mirror_image(hand: HandModel) -> None:
    left = HandModel.load("left")
    flip = np.array([1, 1, -1])
    pose = np.random.default_rng(3).normal(0, 0.4, (16, 3))
    # A mirrored rotation has its axis negated in the mirror's plane directions.
    mirrored = pose * np.array([-1, -1, 1])
    np.testing.assert_allclose(
        left(mirrored.reshape(48)).vertices[0], hand(pose.reshape(48)).vertices[0] * flip, atol=1e-6
    )
    assert trimesh.Trimesh(left.template, left.faces, process=False).volume > 0


@pytest.mark.parametrize("side", ["right", "left"])
def test_positive_flexion_bends_towards_the_palm(side: str) -> None:
    model = HandModel.load(side)
    pose = np.zeros((16, 3))
    for first in (1, 4, 7, 10):
        pose[first] = model.flexion_axes[first] * 0.8
    tips = [8, 12, 16, 20]
    bent, flat = model(pose.reshape(48)).keypoints[0], model(np.zeros(48)).keypoints[0]
    assert (bent[tips, 1] < flat[tips, 1] - 0.02).all()


def test_rotation_matrices_at_zero_and_half_turn() -> None:
    np.testing.assert_array_equal(rotation_matrices(np.zeros(3)), np.eye(3, dtype=np.float32))
    half = rotation_matrices(np.array([np.pi, 0, 0]))
    np.testing.assert_allclose(half, np.diag([1, -1, -1]), atol=1e-6)


@pytest.mark.parametrize(
    ("pose", "shape"),
    [
        (np.zeros(47), None),
        (np.zeros((2, 2, 48)), None),
        (np.full(48, np.nan), None),
        ("a fist", None),
        (np.zeros((2, 48)), np.zeros((3, 10))),
        (np.zeros(48), np.zeros(11)),
    ],
)
def test_wrong_parameters_are_refused(hand: HandModel, pose: object, shape: object) -> None:
    with pytest.raises(InputError):
        hand(pose, shape)


def test_unknown_side_is_refused() -> None:
    with pytest.raises(InputError, match="right"):
        HandModel.load("both")


def test_skin_refuses_wrong_shapes_and_orders(hand: HandModel) -> None:
    rest, joints = np.zeros((1, 4, 3)), np.zeros((1, 2, 3))
    turns, weights = np.tile(np.eye(3), (1, 2, 1, 1)), np.ones((4, 2)) / 2
    _core.skin(rest, joints, turns, weights, np.array([-1, 0]))
    for wrong in ([0, -1], [-1, 1], [-1, -1], [-2, 0]):
        with pytest.raises(InputError, match="parent"):
            _core.skin(rest, joints, turns, weights, np.array(wrong))
    with pytest.raises(InputError, match="weights"):
        _core.skin(rest, joints, turns, weights[:3], np.array([-1, 0]))
    with pytest.raises(InputError, match="rest"):
        _core.skin(rest[0], joints, turns, weights, np.array([-1, 0]))
    vertices, posed = _core.skin(rest[:0], joints[:0], turns[:0], weights, np.array([-1, 0]))
    assert vertices.shape == (0, 4, 3) and posed.shape == (0, 2, 3)
