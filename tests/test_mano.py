"""load_mano and the batched skinning against float64 NumPy and torch, on MANO-shaped files built here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hoirt
import numpy as np
import pytest
import torch
import trimesh
from hoirt import InputError
from hoirt.hands.mano import TIPS, convert_mano, wrist_faces
from hoirt.hands.model import HandModel, mirrored_pose
from hypothesis import given, settings
from hypothesis import strategies as st
from mano_tools import PARENTS, left_of, mano_constants, mano_pickle, python2_pickle
from scipy.spatial.transform import Rotation

RIGHT = mano_constants()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mano")
    (path / "MANO_RIGHT.pkl").write_bytes(mano_pickle(RIGHT))
    (path / "MANO_LEFT.pkl").write_bytes(python2_pickle(left_of(RIGHT)))
    return path


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOIRT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mano"


@pytest.fixture(scope="module")
def right(folder: Path) -> HandModel:
    return hoirt.load_mano(folder, side="right", cache=False)


def in_float64(
    mano: dict[str, np.ndarray], aa: np.ndarray, shape: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One hand by 4 x 4 matrices in float64; `aa` (48,) with everything added."""
    shaped = mano["v_template"] + mano["shapedirs"] @ shape
    joints = mano["J_regressor"] @ shaped
    turns = Rotation.from_rotvec(aa.reshape(16, 3)).as_matrix()
    shaped = shaped + mano["posedirs"] @ (turns[1:] - np.eye(3)).ravel()
    world = np.zeros((16, 4, 4))
    for j, parent in enumerate(PARENTS):
        local = np.eye(4)
        local[:3, :3], local[:3, 3] = turns[j], joints[j] - (joints[parent] if parent >= 0 else 0)
        world[j] = local if parent < 0 else world[parent] @ local
    rest = np.tile(np.eye(4), (16, 1, 1))
    rest[:, :3, 3] = -joints
    blend = np.einsum("vj,jab->vab", mano["weights"], world @ rest)
    return np.einsum("vab,vb->va", blend, np.c_[shaped, np.ones(778)])[:, :3], world[:, :3, 3]


def in_torch(mano: dict[str, np.ndarray], aa: np.ndarray, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """smplx's formulation: Rodrigues of v + 1e-8, products along the tree, rest joints subtracted."""
    t = {name: torch.as_tensor(array.astype(np.float64)) for name, array in mano.items()}
    vectors, betas = torch.as_tensor(aa).reshape(-1, 16, 3), torch.as_tensor(shape)
    angle = torch.linalg.norm(vectors + 1e-8, dim=-1, keepdim=True)
    x, y, z = (vectors / angle).unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*x.shape, 3, 3)
    sine, cosine = torch.sin(angle)[..., None], torch.cos(angle)[..., None]
    turns = torch.eye(3, dtype=torch.float64) + sine * skew + (1 - cosine) * (skew @ skew)
    shaped = t["v_template"] + torch.einsum("bl,mkl->bmk", betas, t["shapedirs"])
    joints = torch.einsum("bik,ji->bjk", shaped, t["J_regressor"])
    feature = (turns[:, 1:] - torch.eye(3)).reshape(len(turns), -1)
    posed = shaped + (feature @ t["posedirs"].reshape(-1, 135).T).reshape(-1, 778, 3)
    relative = joints.clone()
    relative[:, 1:] -= joints[:, PARENTS[1:]]
    local = torch.nn.functional.pad(torch.cat([turns, relative[..., None]], -1), (0, 0, 0, 1))
    local[..., 3, 3] = 1
    chain = [local[:, 0]]
    for j in range(1, 16):
        chain.append(chain[PARENTS[j]] @ local[:, j])
    world = torch.stack(chain, 1)
    lever = world @ torch.nn.functional.pad(joints[..., None], (0, 0, 0, 1))
    transforms = world - torch.nn.functional.pad(lever, (3, 0))
    blend = torch.einsum("vj,njab->nvab", t["weights"], transforms)
    vertices = torch.einsum("nvab,nvb->nva", blend, torch.nn.functional.pad(posed, (0, 1), value=1.0))
    return vertices[..., :3].numpy(), world[..., :3, 3].numpy()


def test_file_is_read_dense(right: HandModel) -> None:
    np.testing.assert_array_equal(right.template, RIGHT["v_template"].astype(np.float32))
    np.testing.assert_array_equal(right.shape_directions, RIGHT["shapedirs"].astype(np.float32))
    np.testing.assert_array_equal(right.joint_regressor, RIGHT["J_regressor"].astype(np.float32))
    np.testing.assert_array_equal(right.faces, RIGHT["f"])
    assert right.faces.dtype == np.int32 and right.side == "right" and right.parents.tolist() == PARENTS


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol(tmp_path: Path, right: HandModel, protocol: int) -> None:
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(mano_pickle(RIGHT, protocol))
    model = hoirt.load_mano(path)
    np.testing.assert_array_equal(model.shape_directions, right.shape_directions)
    np.testing.assert_array_equal(model.joint_regressor, right.joint_regressor)


def test_pickle_of_python_2(tmp_path: Path, right: HandModel) -> None:
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(python2_pickle(RIGHT))
    model = hoirt.load_mano(path)
    for name in ("template", "shape_directions", "pose_directions", "joint_regressor", "weights", "faces"):
        np.testing.assert_array_equal(getattr(model, name), getattr(right, name))


def test_equals_float64_and_torch(right: HandModel) -> None:
    rng = np.random.default_rng(1)
    poses, shapes = rng.normal(0, 0.7, (9, 48)), rng.normal(0, 1.5, (9, 10))
    posed = right(poses, shapes)
    others, joints = in_torch(RIGHT, poses, shapes)
    assert np.abs(posed.vertices - others).max() <= 1e-5
    assert np.abs(posed.joints - joints).max() <= 1e-5
    for k in range(9):
        vertices, joints = in_float64(RIGHT, poses[k], shapes[k])
        assert np.abs(posed.vertices[k] - vertices).max() <= 1e-5
        assert np.abs(posed.joints[k] - joints).max() <= 1e-5


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), frames=st.integers(1, 40), threads=st.integers(1, 9), shared=st.booleans()
)
def test_bits_do_not_depend_on_threads_or_batch(
    right: HandModel, seed: int, frames: int, threads: int, shared: bool
) -> None:
    rng = np.random.default_rng(seed)
    poses, shapes = rng.normal(0, 1, (frames, 48)), rng.normal(0, 1, (1 if shared else frames, 10))
    alone, together = right(poses, shapes, threads=1), right(poses, shapes, threads=threads)
    np.testing.assert_array_equal(alone.vertices, together.vertices)
    np.testing.assert_array_equal(alone.joints, together.joints)
    k = frames // 2
    one = right(poses[k], shapes[0 if shared else k])
    np.testing.assert_array_equal(one.vertices[0], together.vertices[k])


def test_mean_pose_and_components(folder: Path) -> None:
    rng = np.random.default_rng(2)
    turn, coefficients, shape = rng.normal(0, 1, 3), rng.normal(0, 1, 6), rng.normal(0, 1, 10)
    by_components = coefficients @ RIGHT["hands_components"][:6]
    for flat in (True, False):
        model = hoirt.load_mano(folder, side="right", flat_hand_mean=flat, pca=6)
        assert model.pose_size == 9
        fingers = by_components + (0 if flat else RIGHT["hands_mean"])
        expected, _ = in_float64(RIGHT, np.r_[turn, fingers], shape)
        assert np.abs(model(np.r_[turn, coefficients], shape).vertices[0] - expected).max() <= 1e-5
        plain = hoirt.load_mano(folder, side="right", flat_hand_mean=flat)
        assert np.abs(plain(np.r_[turn, by_components], shape).vertices[0] - expected).max() <= 1e-5


def test_root_turns_about_the_wrist_and_translation_is_added_last(right: HandModel) -> None:
    pose = np.zeros((2, 48))
    pose[1, :3] = 0.4, -1.0, 2.0
    shape, offset = np.full(10, 0.5), np.array([[1.0, 2.0, 3.0]])
    still = right(pose, shape)
    moved = right(pose, shape, offset)
    np.testing.assert_allclose(still.joints[0, 0], still.joints[1, 0], atol=1e-6)
    assert np.linalg.norm(still.joints[0, 0]) > 0.01  # and that is not the origin
    np.testing.assert_allclose(moved.vertices, still.vertices + offset, atol=1e-6)


@pytest.mark.parametrize("name", [*TIPS, (1, 2, 3, 4, 5)])
def test_keypoints_and_tips(folder: Path, name: Any) -> None:
    model = hoirt.load_mano(folder, side="left", tips=name)
    posed = model(np.random.default_rng(3).normal(0, 0.5, (2, 48)))
    tips = TIPS[name]["left"] if isinstance(name, str) else name
    np.testing.assert_array_equal(posed.keypoints[:, [4, 8, 12, 16, 20]], posed.vertices[:, list(tips)])
    # The 16 joints and 5 tips in the order in which manopth and smplx's users permute them.
    order = [0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20]
    stacked = np.concatenate([posed.joints, posed.vertices[:, list(tips)]], axis=1)
    np.testing.assert_array_equal(posed.keypoints, stacked[:, order])


def test_tip_sets_differ_between_the_hands() -> None:
    assert TIPS["manopth"]["right"][2] == 444 and TIPS["manopth"]["left"][2] == 445


# The left hand


def test_sign_of_the_left_hand(folder: Path, tmp_path: Path) -> None:
    wrong = left_of(RIGHT)["shapedirs"].astype(np.float32)
    fixed = wrong * np.array([-1, 1, 1], np.float32)[:, None]
    np.testing.assert_array_equal(hoirt.load_mano(folder, side="left").shape_directions, fixed)
    np.testing.assert_array_equal(
        hoirt.load_mano(folder, side="left", fix_left=False).shape_directions, wrong
    )
    # Alone, the published sign is taken to be wrong; one put right already is left alone beside its twin.
    alone = tmp_path / "MANO_LEFT.pkl"
    alone.write_bytes(mano_pickle(left_of(RIGHT)))
    np.testing.assert_array_equal(hoirt.load_mano(alone).shape_directions, fixed)
    alone.write_bytes(mano_pickle(left_of(RIGHT) | {"shapedirs": fixed.astype(np.float64)}))
    (tmp_path / "MANO_RIGHT.pkl").write_bytes(mano_pickle(RIGHT))
    np.testing.assert_array_equal(hoirt.load_mano(alone).shape_directions, fixed)
    right = hoirt.load_mano(folder, side="right")
    np.testing.assert_array_equal(
        hoirt.load_mano(folder, side="right", fix_left=True).template, right.template
    )


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("pca", [None, 12])
def test_left_is_the_mirror_image_of_right(folder: Path, flat: bool, pca: int | None) -> None:
    right = hoirt.load_mano(folder, side="right", flat_hand_mean=flat, pca=pca)
    left = hoirt.load_mano(folder, side="left", flat_hand_mean=flat, pca=pca)
    mirrored = right.mirrored()
    assert mirrored.side == "left"
    rng = np.random.default_rng(4)
    pose, shape = rng.normal(0, 0.5, (3, right.pose_size)), rng.normal(0, 1, (3, 10))
    other = pose * np.r_[1, -1, -1, np.ones(right.pose_size - 3)] if pca else mirrored_pose(pose)
    flip = np.array([-1, 1, 1])
    expected = right(pose, shape).vertices * flip
    for model in (left, mirrored):
        np.testing.assert_allclose(model(other, shape).vertices, expected, atol=2e-6)
    np.testing.assert_array_equal(left.faces, mirrored.faces)


def test_mirrored_rotations_are_conjugated() -> None:
    pose = np.random.default_rng(5).normal(0, 1, (7, 48))
    for axis in range(3):
        flip = np.ones(3)
        flip[axis] = -1
        turned = Rotation.from_rotvec(mirrored_pose(pose, axis).reshape(-1, 3)).as_matrix()
        original = Rotation.from_rotvec(pose.reshape(-1, 3)).as_matrix()
        np.testing.assert_allclose(turned, flip[:, None] * original * flip, atol=1e-6)


# The wrist


def test_wrist_is_closed(folder: Path) -> None:
    for side in ("right", "left"):
        model = hoirt.load_mano(folder, side=side, close_wrist=True)
        assert model.faces.shape == (1552, 3)
        surface = trimesh.Trimesh(model.template, model.faces, process=False)
        assert surface.is_watertight and surface.is_winding_consistent
        assert not trimesh.Trimesh(model.template, model.faces[:1538], process=False).is_watertight


def test_wrist_faces_want_one_hole(right: HandModel) -> None:
    closed = np.concatenate([right.faces, wrist_faces(right.faces)])
    with pytest.raises(InputError, match="no hole"):
        wrist_faces(closed)
    with pytest.raises(InputError, match="hole"):
        wrist_faces(right.faces[:-16])  # the cap is gone too
    with pytest.raises(InputError, match="hole"):
        wrist_faces(closed[[0, 1, 2]])
    for wrong in (right.faces[:0], right.faces.astype(float), right.faces[:, :2], [[0, 1, 2]]):
        with pytest.raises(InputError, match=r"faces must be|no hole"):
            wrist_faces(wrong)


# Conversion and cache


def test_conversion_reads_back(folder: Path, tmp_path: Path, right: HandModel) -> None:
    path = convert_mano(folder / "MANO_RIGHT.pkl", tmp_path / "MANO_RIGHT.safetensors")
    model = hoirt.load_mano(path)
    np.testing.assert_array_equal(model.pose_directions, right.pose_directions)
    assert [entry.name for entry in tmp_path.iterdir()] == ["MANO_RIGHT.safetensors"]
    with pytest.raises(InputError, match=r"\.safetensors"):
        convert_mano(folder / "MANO_RIGHT.pkl", tmp_path / "right.npz")
    with pytest.raises(InputError, match="cannot be written"):
        convert_mano(folder / "MANO_RIGHT.pkl", tmp_path / "no" / "right.safetensors")


def test_cache_is_used_and_made_again(folder: Path, own_cache: Path, right: HandModel) -> None:
    hoirt.load_mano(folder, side="right", cache=False)
    assert not own_cache.exists()
    hoirt.load_mano(folder, side="right")
    (entry,) = own_cache.iterdir()
    for damaged in (b"", entry.read_bytes()[:1000], b"\xff" * 100):
        entry.write_bytes(damaged)
        model = hoirt.load_mano(folder, side="right")
        np.testing.assert_array_equal(model.template, right.template)
        assert len(entry.read_bytes()) > 1_000_000
    hoirt.load_mano(folder, side="left")
    assert len(list(own_cache.iterdir())) == 3 - 1


def test_unwritable_cache_only_warns(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOIRT_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="not cached"):
        hoirt.load_mano(folder, side="right")
    monkeypatch.setenv("HOIRT_CACHE", "")
    hoirt.load_mano(folder, side="right")
