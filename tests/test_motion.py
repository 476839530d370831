"""load_motion on files built here in the documented shapes of GraspXL, DexYCB and OakInk2."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import hoirt
import numpy as np
import pytest
import torch
from hoirt import InputError
from hoirt.hands.model import HandModel
from hoirt.hands.motion_arrays import parse_npy, parse_npz
from mano_tools import mano_constants, mano_pickle
from scipy.spatial.transform import Rotation

RIGHT = mano_constants()
T = 7


@pytest.fixture(scope="module")
def mano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mano") / "MANO_RIGHT.pkl"
    path.write_bytes(mano_pickle(RIGHT))
    return path


def model_of(motion: hoirt.Motion, mano: Path) -> HandModel:
    return hoirt.load_mano(mano, cache=False, **motion.mano_options)


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


# GraspXL


def graspxl(**changes: Any) -> dict[str, Any]:
    hand = {"trans": random(T, 3), "rot": random(T, 3, seed=1), "pose": random(T, 45, seed=2)}
    thing = {
        "trans": random(T, 3, seed=3),
        "rot": random(T, 3, seed=4),
        "angle": np.zeros((T, 1), np.float32),
    }
    return {"right_hand": hand | changes, "0123abcd": thing}


def saved(path: Path, content: Any) -> Path:
    np.save(path, np.array(content, object), allow_pickle=True)
    return path


def test_graspxl(tmp_path: Path, mano: Path) -> None:
    content = graspxl()
    motion = hoirt.load_motion(saved(tmp_path / "mano_1.npy", content))
    hand, thing = content["right_hand"], content["0123abcd"]
    assert (motion.format, motion.side, motion.fps, len(motion)) == ("graspxl", "right", 100.0, T)
    assert not motion.flat_hand_mean and not motion.components and motion.valid.all()
    np.testing.assert_array_equal(motion.pose, np.c_[hand["rot"], hand["pose"]])
    poses = motion.objects["0123abcd"]
    np.testing.assert_allclose(poses[:, :3, :3], Rotation.from_rotvec(thing["rot"]).as_matrix(), atol=1e-6)
    np.testing.assert_array_equal(poses[:, :3, 3], thing["trans"])
    np.testing.assert_array_equal(poses[:, 3], [[0, 0, 0, 1]] * T)
    # The mean pose is added to the fingers, the translation to the vertices.
    plain = hoirt.load_mano(mano, cache=False)
    expected = plain(motion.pose + np.r_[np.zeros(3), RIGHT["hands_mean"]]).vertices + hand["trans"][:, None]
    np.testing.assert_allclose(motion.posed(model_of(motion, mano)).vertices, expected, atol=1e-5)


@pytest.mark.parametrize("protocol", range(6))
def test_graspxl_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "motion.npy"
    with path.open("wb") as file:
        header = {"descr": "|O", "fortran_order": False, "shape": ()}
        np.lib.format.write_array_header_1_0(file, header)
        pickle.dump(np.array(graspxl(), object), file, protocol)
    assert len(hoirt.load_motion(path)) == T


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (graspxl(pose=random(T, 22)), "Allegro"),
        (graspxl(pose=random(T + 1, 45)), "shape"),
        (graspxl(rot=random(T)), "shape"),
        (graspxl(trans=np.full((T, 3), np.nan)), "NaN"),
        (graspxl(trans=np.full((T, 3), 1000.0)), "millimetres"),
        (graspxl(pose=np.zeros((T, 45), int)), "floating"),
        (graspxl(pose=None), "floating"),
        ({"left_hand": 5}, "floating"),
        ({"object": {}}, "right_hand"),
        ({}, "right_hand"),
        ([1, 2], "dictionary"),
    ],
)
def test_wrong_graspxl(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        hoirt.load_motion(saved(tmp_path / "motion.npy", content))


# DexYCB


def dexycb(root: Path, frames: int = T, meta: str | None = None) -> tuple[Path, np.ndarray, np.ndarray]:
    """A data set of one sequence seen by one camera; its folder, pose_m (T, 51), pose_y (T, 2, 3, 4)."""
    folder = root / "20200709-subject-01" / "20200709_141754" / "836212060125"
    folder.mkdir(parents=True)
    meta = meta or (
        "serials:\n- '836212060125'\nnum_frames: 72\nextrinsics: '20200702_151821'\n"
        "mano_calib:\n- 20200709-weiy\nmano_sides:\n- right\nycb_ids:\n- 2\n- 14\nycb_grasp_ind: 0\n"
    )
    (folder.parent / "meta.yml").write_text(meta)
    hand = np.concatenate([random(frames, 48), random(frames, 3) + np.float32(0.8)], axis=1).astype(
        np.float32
    )
    hand[0] = 0  # no hand yet
    turns = Rotation.from_rotvec(random(frames * 2, 3)).as_matrix().reshape(frames, 2, 3, 3)
    objects = np.concatenate([turns, random(frames, 2, 3, 1)], axis=3).astype(np.float32)
    objects[1, 1] = 0  # not tracked
    for t in range(frames):
        seg = np.zeros((480, 640), np.uint8)
        np.savez_compressed(
            folder / f"labels_{t:06d}.npz", seg=seg, pose_m=hand[t : t + 1], pose_y=objects[t]
        )
    return folder, hand, objects


def calibrate(root: Path) -> None:
    (root / "calibration" / "intrinsics").mkdir(parents=True)
    (root / "calibration" / "mano_20200709-weiy").mkdir()
    (root / "calibration" / "intrinsics" / "836212060125_640x480.yml").write_text(
        "color:\n  fx: 613.5\n  fy: 614\n  ppx: 320.25\n  ppy: 241.5\ndepth:\n  fx: 1.0\n"
    )
    betas = "\n".join(f"- {k / 10}" for k in range(10))
    (root / "calibration" / "mano_20200709-weiy" / "mano.yml").write_text(f"betas:\n{betas}\n")


def test_dexycb(tmp_path: Path, mano: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, hand, objects = dexycb(tmp_path)
    bare = hoirt.load_motion(folder)
    assert bare.shape is None and bare.camera is None
    with pytest.raises(InputError, match="shape"):
        bare.posed(model_of(bare, mano))
    calibrate(tmp_path)
    motion = hoirt.load_motion(folder, side="right")
    assert (motion.format, motion.side, motion.fps, len(motion)) == ("dexycb", "right", 30.0, T)
    assert motion.valid.tolist() == [False] + [True] * (T - 1)
    assert motion.camera.intrinsics.tolist() == [613.5, 614, 320.25, 241.5] and motion.camera.size == (
        480,
        640,
    )
    np.testing.assert_allclose(motion.shape, np.arange(10) / 10)
    assert set(motion.objects) == {"ycb_2", "ycb_14"}
    np.testing.assert_array_equal(motion.objects["ycb_2"][:, :3], objects[:, 0])
    assert np.isnan(motion.objects["ycb_14"][1]).all() and np.isfinite(motion.objects["ycb_14"][2:]).all()
    # 45 coefficients of the components, about the mean pose.
    fingers = hand[:, 3:48] @ RIGHT["hands_components"] + RIGHT["hands_mean"]
    plain = hoirt.load_mano(mano, cache=False)
    expected = plain(np.c_[hand[:, :3], fingers], motion.shape, hand[:, 48:]).vertices
    np.testing.assert_allclose(motion.posed(model_of(motion, mano)).vertices, expected, atol=1e-5)
    with pytest.raises(InputError, match="flat_hand_mean=False, pca=45"):
        motion.posed(plain)
    monkeypatch.chdir(folder)
    np.testing.assert_array_equal(hoirt.load_motion(".").pose, motion.pose)
    single = hoirt.load_motion("labels_000003.npz")
    assert single.frames.tolist() == [3]
    np.testing.assert_array_equal(single.pose, motion.pose[3:4])


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ("mano_sides: [right, left]\nycb_ids: [2, 14]", "one hand"),
        ("mano_sides: [up]\nycb_ids: [2, 14]", "one hand"),
        ("ycb_ids: [2, 14]", "mano_sides"),
        ("mano_sides: [right]\nycb_ids: [2]\nmano_calib: [a]", "shape"),
        ("mano_sides: [right]\nycb_ids: [2, 14]\nmano_calib: [../../etc]", "one name"),
        ("mano_sides: [right]\nycb_ids: [2, 14]\nmano_calib: [gone]", "does not exist"),
        ("- a\n- b", "mapping"),
        ("mano_sides: !!python/object/apply:os.system ['ls']", "not accepted"),
    ],
)
def test_wrong_dexycb_meta(tmp_path: Path, meta: str, message: str) -> None:
    folder, _, _ = dexycb(tmp_path, 2, meta)
    calibrate(tmp_path)
    with pytest.raises(InputError, match=message):
        hoirt.load_motion(folder)


def test_wrong_dexycb_files(tmp_path: Path) -> None:
    folder, hand, objects = dexycb(tmp_path, 2)
    label = folder / "labels_000001.npz"
    for wrong, message in (
        ({"pose_m": hand[:1]}, "pose_y"),
        ({"pose_m": hand[:1, :48], "pose_y": objects[0]}, "shape"),
        ({"pose_m": hand[:1], "pose_y": objects[0, :1]}, "shape"),
        ({"pose_m": hand[:1], "pose_y": objects[0] * 2}, "no rotations"),
        ({"pose_m": hand[:1] * np.nan, "pose_y": objects[0]}, "NaN"),
        ({"pose_m": hand[:1].astype(int), "pose_y": objects[0]}, "floating"),
    ):
        np.savez(label, **wrong)
        with pytest.raises(InputError, match=message):
            hoirt.load_motion(folder)
    whole = (folder / "labels_000000.npz").read_bytes()
    for content in (b"", b"PK", whole[: len(whole) // 2], whole[:-30]):
        label.write_bytes(content)
        with pytest.raises(InputError, match="npz"):
            hoirt.load_motion(folder)
    label.rename(folder / "labels_one.npz")
    with pytest.raises(InputError, match="number of the frame"):
        hoirt.load_motion(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="labels_"):
        hoirt.load_motion(tmp_path / "empty")


# OakInk2


def oakink2(**changes: Any) -> dict[str, Any]:
    ids = list(range(100, 100 + T))
    quaternions = np.random.default_rng(5).normal(size=(T, 2, 16, 4)).astype(np.float32)
    betas = random(2, 10)
    hands = {
        frame: {
            f"{hand}__{key}": torch.from_numpy(value[None].copy())
            for h, hand in enumerate(("lh", "rh"))
            for key, value in (
                ("pose_coeffs", quaternions[t, h]), ("tsl", random(3, seed=t)), ("betas", betas[h])
            )
        }
        for t, frame in enumerate(ids)
    }  # fmt: skip
    transform = np.eye(4, dtype=np.float32)
    transform[:3] = np.c_[Rotation.from_rotvec([0.1, 0.2, 0.3]).as_matrix(), [0.1, 0.2, 0.3]]
    matrix = np.array([[600, 0, 424], [0, 601, 240], [0, 0, 1]], np.float32)
    seen = ids[::4]
    return {
        "mocap_frame_id_list": ids,
        "obj_list": ["O02@0015@00001"],
        "raw_mano": hands,
        "raw_smplx": {frame: {"body_pose": torch.zeros(1, 21, 4)} for frame in ids},
        "obj_transf": {"O02@0015@00001": dict.fromkeys(ids[1:], transform)},
        "cam_def": {"0001": "egocentric"},
        "cam_extr": {"egocentric": dict.fromkeys(seen, transform)},
        "cam_intr": {"egocentric": dict.fromkeys(seen, matrix)},
    } | changes


def pickled(path: Path, content: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("side", ["right", "left"])
def test_oakink2(tmp_path: Path, mano: Path, side: str) -> None:
    content = oakink2()
    motion = hoirt.load_motion(pickled(tmp_path / "scene.pkl", content), side=side)
    assert (motion.format, motion.side, motion.fps, len(motion)) == ("oakink2", side, 120.0, T)
    assert motion.flat_hand_mean and not motion.components and motion.origin == "wrist"
    hand = "rh" if side == "right" else "lh"
    for t, frame in enumerate(content["mocap_frame_id_list"]):
        coefficients = content["raw_mano"][frame][f"{hand}__pose_coeffs"].numpy()[0]
        turns = Rotation.from_quat(coefficients, scalar_first=True).as_matrix()
        found = Rotation.from_rotvec(motion.pose[t].reshape(16, 3)).as_matrix()
        np.testing.assert_allclose(found, turns, atol=1e-5)
    assert np.isnan(motion.objects["O02@0015@00001"][0]).all()
    assert motion.camera is None
    if side == "right":
        posed = motion.posed(model_of(motion, mano))
        np.testing.assert_allclose(posed.joints[:, 0], motion.translation, atol=1e-6)
        np.testing.assert_allclose(posed.keypoints[:, 0], motion.translation, atol=1e-6)


def test_oakink2_camera(tmp_path: Path) -> None:
    motion = hoirt.load_motion(pickled(tmp_path / "scene.pkl", oakink2()), camera="egocentric")
    assert motion.frames.tolist() == [100, 104] and motion.fps == 30.0
    assert motion.camera.intrinsics.tolist() == [600, 601, 424, 240]
    assert motion.camera.extrinsics.shape == (2, 4, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"raw_mano": {}}, "no frame"),
        ({"raw_mano": 3}, "raw_mano"),
        ({"raw_mano": dict.fromkeys(range(100, 107))}, "pose_coeffs"),
        ({"mocap_frame_id_list": "all"}, "mocap_frame_id_list"),
        ({"obj_transf": {"a": {100: np.eye(3)}}}, "shape"),
        ({"obj_transf": {"a": {100: np.eye(4) * 2}}}, "last row"),
        ({"obj_transf": {"a": {100: np.diag([2.0, 1, 1, 1])}}}, "no rotations"),
        ({"obj_transf": {"a": 5}}, "by frame"),
        ({"cam_extr": {}}, "no camera"),
        ({"cam_intr": {"egocentric": {}}}, "cam_intr"),
    ],
)
def test_wrong_oakink2(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        hoirt.load_motion(pickled(tmp_path / "scene.pkl", oakink2(**changes)), camera="egocentric")


# What load_motion refuses


def test_wrong_calls(tmp_path: Path) -> None:
    path = saved(tmp_path / "motion.npy", graspxl())
    for keywords, message in (
        ({"format": "bvh"}, "format"),
        ({"side": "both"}, "side"),
        ({"side": "left"}, "right hand"),
        ({"camera": "front"}, "camera"),
        ({"format": "oakink2"}, "at byte"),
    ):
        with pytest.raises(InputError, match=message):
            hoirt.load_motion(path, **keywords)
    with pytest.raises(InputError, match="format"):
        hoirt.load_motion(tmp_path / "motion.bvh")
    with pytest.raises(InputError, match="does not exist"):
        hoirt.load_motion(tmp_path / "gone.npy")


def test_arrays_are_read_and_bounded(tmp_path: Path) -> None:
    for array in (np.arange(6).reshape(2, 3), np.asfortranarray(np.eye(3)), np.float32(3), np.zeros((0, 4))):
        np.save(tmp_path / "a.npy", array)
        np.testing.assert_array_equal(parse_npy((tmp_path / "a.npy").read_bytes(), "a"), array)
    good = (tmp_path / "a.npy").read_bytes()
    huge = b"\x93NUMPY\x02\x00" + b"\xff" * 4 + b"(" * 9999
    for wrong in (b"", good[:5], good[:50], good + b"x", good.replace(b"(0, 4)", b"(9,99)"), huge,
                  good.replace(b"<f8", b"|O8"), b"\x93NUMPY\x09\x00" + good[8:],
                  good.replace(b"False", b"exit(")):  # fmt: skip
        with pytest.raises(InputError, match="a"):
            parse_npy(wrong, "a")
    np.savez_compressed(tmp_path / "bomb.npz", a=np.zeros(2**20, np.uint8))
    with pytest.raises(InputError, match="at most 1000"):
        parse_npz((tmp_path / "bomb.npz").read_bytes(), ["a"], "bomb", 1000)
