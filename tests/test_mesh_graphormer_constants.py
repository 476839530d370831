"""The hand constants of MeshGraphormer from the user's files: against float64, and what is refused."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hoirt import InputError
from mano_tools import left_of, mano_constants, mano_pickle
from mesh_graphormer_tools import coarse_graph, picks, row_normalised, write_data, write_mano
from test_mano import in_float64

from export.mesh_graphormer.constants import HandConstants, read_constants

MANO = mano_constants()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOIRT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return write_mano(tmp_path), write_data(tmp_path / "data")


@pytest.fixture
def hand(files: tuple[Path, Path]) -> HandConstants:
    return read_constants(*files)


# The joints of MANO, five finger tips after them, in the order of the 21 keypoints.
ORDER = [0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20]


def test_template_is_the_mean_hand_about_its_wrist(hand: HandConstants) -> None:
    pose = np.concatenate([np.zeros(3), MANO["hands_mean"]])
    vertices, joints = in_float64(MANO, pose, np.zeros(10))
    keypoints = np.concatenate([joints, vertices[[745, 317, 444, 556, 673]]])[ORDER]  # manopth's tips
    expected = np.concatenate([keypoints, picks() @ vertices]) - joints[0]
    assert hand.template.shape == (216, 3) and hand.template.dtype == np.float32
    assert np.abs(hand.template - expected).max() <= 1e-6
    assert not hand.template[0].any()


def test_regressor_has_the_released_tips(hand: HandConstants) -> None:
    """Its middle tip is vertex 445, not the 444 of the template."""
    expected = np.concatenate([MANO["J_regressor"], np.eye(778)[[745, 317, 445, 556, 673]]])[ORDER]
    assert hand.joint_regressor.dtype == np.float32
    assert np.abs(hand.joint_regressor - expected).max() <= 1e-6
    assert hand.faces.dtype == np.int32 and np.array_equal(hand.faces, MANO["f"])


def test_stored_and_made_adjacency_are_the_same(files: tuple[Path, Path], tmp_path: Path) -> None:
    stored = read_constants(*files).adjacency
    made = read_constants(files[0], write_data(tmp_path / "bare", adjacency=False)).adjacency
    assert np.abs(stored - row_normalised(coarse_graph())).max() <= 1e-7
    assert np.abs(made - stored).max() <= 1e-7


def test_stored_adjacency_wins(files: tuple[Path, Path]) -> None:
    """It is what the weights were trained with."""
    other = torch.eye(195).to_sparse().coalesce()
    torch.save(other.indices(), files[1] / "mano_195_adjmat_indices.pt")
    torch.save(other.values(), files[1] / "mano_195_adjmat_values.pt")
    assert np.array_equal(read_constants(*files).adjacency, np.eye(195))


def test_a_folder_of_both_hands_gives_the_right_one(files: tuple[Path, Path], tmp_path: Path) -> None:
    expected = read_constants(*files).template
    (tmp_path / "MANO_LEFT.pkl").write_bytes(mano_pickle(left_of(MANO)))
    assert np.array_equal(read_constants(tmp_path, files[1]).template, expected)
    with pytest.raises(InputError, match="MANO_RIGHT"):
        read_constants(tmp_path / "MANO_LEFT.pkl", files[1])


def rewritten(path: Path, part: str, content: bytes) -> None:
    """Replaces one array of an .npz file."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts[f"{part}.npy"] = content
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)


def objects(*items: object) -> bytes:
    row = np.empty(len(items), object)
    row[:] = items
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, row, allow_pickle=True)
    return buffer.getvalue()


def plain(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array)
    return buffer.getvalue()


class Hostile:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return pytest.fail, ("the file was run",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (objects(), r"D\[0\] is missing"),
        (objects(1), r"D\[0\] is a int"),
        (objects(np.zeros((195, 777))), r"D\[0\].*\(195, 778\), not \(195, 777\)"),
        (objects(np.full((195, 778), np.nan)), r"D\[0\].*finite"),
        (plain(np.zeros(3)), "row of matrices"),
        (objects(np.zeros((195, 778)))[:300], "pickle|D.npy"),
        (b"", "D.npy|npz"),
        (b"\x93NUMPY\x09\x00", "format"),
        (objects(Hostile()), "D.npy"),
        (objects(1)[:128] + pickle.dumps([1]), "row of matrices"),
    ],
)
def test_wrong_sampling_files_are_refused(content: bytes, message: str, files: tuple[Path, Path]) -> None:
    rewritten(files[1] / "mano_downsampling.npz", "D", content)
    with pytest.raises(InputError, match=message):
        read_constants(*files)


def test_sampling_files_that_are_none(files: tuple[Path, Path]) -> None:
    path = files[1] / "mano_downsampling.npz"
    whole = path.read_bytes()
    for content in (b"", b"PK", whole[: len(whole) // 2], b"not a zip" * 100):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"mano_downsampling\.npz"):
            read_constants(*files)
    path.unlink()
    with pytest.raises(InputError, match="does not exist"):
        read_constants(*files)
    with pytest.raises(InputError, match="not a folder"):
        read_constants(files[0], path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other.npy", b"")
    with pytest.raises(InputError, match=r"holds no D\.npy"):
        read_constants(*files)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("size", torch.Size((195, 196)), "size"),
        ("size", 3, "size"),
        ("size", torch.zeros(2, 2), "size"),
        ("size", ["a", "b"], "size"),
        ("indices", torch.zeros(2, 5, dtype=torch.int64), "indices must be"),
        ("indices", torch.full((2, 195), 195), "indices must be"),
        ("indices", torch.full((2, 195), -1), "indices must be"),
        ("indices", [1, 2], "indices must be"),
        ("values", torch.zeros(0), "indices must be"),
        ("values", torch.ones(3, dtype=torch.int64), "indices must be"),
        ("values", Hostile(), "adjmat_values.pt cannot be read"),
    ],
)
def test_wrong_adjacency_files_are_refused(
    name: str, value: object, message: str, files: tuple[Path, Path]
) -> None:
    torch.save(value, files[1] / f"mano_195_adjmat_{name}.pt")
    with pytest.raises(InputError, match=message):
        read_constants(*files)


def test_adjacency_rows_must_sum_to_one(files: tuple[Path, Path]) -> None:
    path = files[1] / "mano_195_adjmat_values.pt"
    values = torch.load(path, weights_only=True)
    for wrong in (values * 1.1, values * torch.nan):
        torch.save(wrong, path)
        with pytest.raises(InputError, match="sum to 1"):
            read_constants(*files)


def test_adjacency_files_come_together(files: tuple[Path, Path]) -> None:
    (files[1] / "mano_195_adjmat_size.pt").unlink()
    with pytest.raises(InputError, match=r"not mano_195_adjmat_size\.pt"):
        read_constants(*files)
    (files[1] / "mano_195_adjmat_size.pt").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be read"):
        read_constants(*files)
