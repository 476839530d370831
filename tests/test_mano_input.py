"""load_mano and the skinning refuse what cannot be right: files, options, poses, arrays."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import hoirt
import numpy as np
import pytest
from hoirt import InputError, _core
from hoirt.hands.model import HandModel, mirrored_pose
from mano_tools import left_of, mano_constants, mano_pickle, python2_pickle

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


def test_file_and_side_are_found(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="both hands"):
        hoirt.load_mano(folder)
    with pytest.raises(InputError, match=r"mano\.is\.tue"):
        hoirt.load_mano(tmp_path)
    deep = tmp_path / "mano_v1_2" / "models"
    deep.mkdir(parents=True)
    (deep / "MANO_LEFT.pkl").write_bytes((folder / "MANO_LEFT.pkl").read_bytes())
    assert hoirt.load_mano(tmp_path).side == "left"
    (tmp_path / "hand.pkl").write_bytes((folder / "MANO_LEFT.pkl").read_bytes())
    with pytest.raises(InputError, match="which hand"):
        hoirt.load_mano(tmp_path / "hand.pkl")
    assert hoirt.load_mano(tmp_path / "hand.pkl", side="left").side == "left"
    with pytest.raises(InputError, match="does not exist"):
        hoirt.load_mano(tmp_path / "MANO_RIGHT.pkl")
    with pytest.raises(InputError, match="is not a file"):
        hoirt.load_mano("/dev/null", side="right")
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(InputError, match="is not a file"):
            hoirt.load_mano(path, side="right")
    with pytest.raises(InputError, match="cannot be read"):
        hoirt.load_mano("a\0b", side="right")


@pytest.mark.parametrize(
    "wrong",
    [{"side": "both"}, {"pca": 0}, {"pca": 46}, {"pca": 2.0}, {"pca": True}, {"tips": "toes"},
     {"tips": [1, 2, 3]}, {"tips": [1, 2, 3, 4, 778]}, {"tips": [0.5] * 5}],
)  # fmt: skip
def test_wrong_options(folder: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        hoirt.load_mano(folder, **({"side": "right"} | wrong))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("v_template", np.zeros((777, 3)), "shape"),
        ("posedirs", np.zeros((778, 3, 0)), "shape"),
        ("v_template", np.full((778, 3), np.nan), "NaN"),
        ("weights", np.full((778, 16), 1e300), "infinity"),
        ("weights", np.zeros((778, 16), int), "floating"),
        ("f", np.full((1538, 3), 778), "integers from 0 to 777"),
        ("f", np.zeros((1538, 3)), "integers"),
        ("f", np.full((1538, 3), 2**40), "integers"),
        ("kintree_table", np.zeros((2, 16), int), "16 joints"),
        ("hands_mean", "zero", "is a str"),
    ],
)
def test_wrong_contents(tmp_path: Path, key: str, value: Any, message: str) -> None:
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(pickle.dumps(RIGHT | {key: value}))
    with pytest.raises(InputError, match=message):
        hoirt.load_mano(path)
    path.write_bytes(pickle.dumps({name: array for name, array in RIGHT.items() if name != key}))
    with pytest.raises(InputError, match=key):
        hoirt.load_mano(path)


def test_damaged_files(tmp_path: Path) -> None:
    path, whole = tmp_path / "MANO_RIGHT.pkl", mano_pickle(RIGHT)
    for length in (0, 1, 10, 1000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError):
            hoirt.load_mano(path)
    for content in (b"not a pickle", whole + b".", b"N.", b"\x80\x04]."):
        path.write_bytes(content)
        with pytest.raises(InputError):
            hoirt.load_mano(path)
    converted = tmp_path / "MANO_RIGHT.safetensors"
    for content in (b"", b"\x00" * 50, b"{}"):
        converted.write_bytes(content)
        with pytest.raises(InputError, match="safetensors"):
            hoirt.load_mano(converted)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m(np.zeros(47)), "pose"),
        (lambda m: m(np.zeros((0, 48)), np.zeros((2, 10))), "shape"),
        (lambda m: m(["1"] * 48), "numbers"),
        (lambda m: m(np.zeros(48, complex)), "numbers"),
        (lambda m: m(np.full(48, 1e300)), "infinity"),
        (lambda m: m(np.zeros(48), np.zeros(11)), "shape"),
        (lambda m: m(np.zeros((2, 48)), None, np.zeros((3, 3))), "translation"),
        (lambda m: m(np.zeros(48), threads=-1), "threads"),
        (lambda m: mirrored_pose(np.zeros(47)), "48"),
        (lambda m: mirrored_pose(np.zeros(48), 3), "axis"),
    ],
)
def test_wrong_poses(right: HandModel, call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(right)


def test_no_hands_is_no_error(right: HandModel) -> None:
    posed = right(np.zeros((0, 48)))
    assert posed.vertices.shape == (0, 778, 3) and posed.keypoints.shape == (0, 21, 3)


# The binding


def body() -> dict[str, Any]:
    return {
        "rest": np.zeros((4, 3), np.float32),
        "shape_directions": np.zeros((2, 4, 3), np.float32),
        "pose_directions": np.zeros((9, 4, 3), np.float32),
        "joints": np.zeros((2, 3), np.float32),
        "joint_directions": np.zeros((2, 2, 3), np.float32),
        "weights": np.zeros((4, 2), np.float32),
        "parents": np.array([-1, 0]),
        "rotations": np.tile(np.eye(3, dtype=np.float32), (3, 2, 1, 1)),
        "shape": np.zeros((3, 2), np.float32),
    }


@pytest.mark.parametrize("name", sorted(body()))
def test_binding_refuses_wrong_arrays(name: str) -> None:
    _core.pose_body(**body())
    good = body()[name]
    wrongs: list[Any] = [
        good[..., None],
        good[:1].repeat(7, axis=0),
        good.astype(complex),
        good.astype("U1"),
        "x",
    ]
    wrongs += (
        [good.astype(np.float32)] if name == "parents" else [good.astype(np.int32), good.astype(np.float16)]
    )
    for wrong in wrongs:
        with pytest.raises(InputError):
            _core.pose_body(**(body() | {name: wrong}))


def test_binding_refuses_wrong_values() -> None:
    for name in ("rotations", "shape"):
        array = body()[name]
        array.flat[0] = np.inf
        with pytest.raises(InputError, match="NaN or infinity"):
            _core.pose_body(**(body() | {name: array}))
    for parents in ([-1, 1], [0, 0], [-2, 0], [-1, 2**40], [-1, -(2**32)]):
        with pytest.raises(InputError, match="parent"):
            _core.pose_body(**(body() | {"parents": np.array(parents)}))
    for threads in (-1, 1.5, 10**30, "two"):
        with pytest.raises(InputError, match="threads"):
            _core.pose_body(**body(), threads=threads)
