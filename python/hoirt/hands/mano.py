"""load_mano(): the user's own MANO files as a HandModel; where libraries differ there is an option."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hoirt.errors import InputError
from hoirt.hands.mano_file import PARENTS, VERTICES, Arrays, read, write
from hoirt.hands.model import JOINT_KEYPOINTS, JOINT_ORDER, TIP_KEYPOINTS, HandModel
from hoirt.paths import path_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Vertices at the tips of thumb, index, middle, ring and pinky. Published choices; they differ by millimetres.
TIPS = {
    "smplx": {"right": (744, 320, 443, 554, 671), "left": (744, 320, 443, 554, 671)},
    "manopth": {"right": (745, 317, 444, 556, 673), "left": (745, 317, 445, 556, 673)},
    "interhandgen": {"right": (744, 320, 444, 555, 672), "left": (744, 320, 444, 555, 672)},
}

_NAMES = {"right": "MANO_RIGHT", "left": "MANO_LEFT"}
_FOLDERS = ("", "models", "mano", "mano_v1_2/models")


def load_mano(
    path: str | os.PathLike[str],
    *,
    side: str | None = None,
    flat_hand_mean: bool = True,
    pca: int | None = None,
    tips: str | Sequence[int] = "smplx",
    fix_left: bool | None = None,
    close_wrist: bool = False,
    cache: bool = True,
) -> HandModel:
    """Reads a MANO hand, without chumpy, SciPy or running anything in the file.

    MANO (Romero, Tzionas, Black: Embodied Hands, SIGGRAPH Asia 2017) is not part of hoirt; its licence is the
    user's matter. The result is posed by calling it; see HandModel.

    Args:
        path: MANO_RIGHT.pkl, MANO_LEFT.pkl, a conversion by `convert_mano`, or a folder that holds them.
        side: "right" or "left"; None takes it from the file's name, and from a folder the only hand in it.
        flat_hand_mean: True: a pose of zeros is the flat hand (manopth, manotorch, HaMeR). False: MANO's mean
            pose is added to every pose (smplx.MANO's default; GraspXL, DexYCB).
        pca: 1..45: the fingers' pose is that many coefficients of MANO's principal components, so that a pose
            has 3 + pca numbers; None: 45 axis-angles. 45 components are a change of basis, not the same as
            None.
        tips: which vertices are the finger tips among the 21 keypoints: "smplx" (also HaMeR), "manopth" (also
            manotorch), "interhandgen", or five vertices for thumb, index, middle, ring, pinky.
        fix_left: negate the x of the left hand's shape directions, whose sign is wrong in the published file
            (vchoutas/smplx issue 48). None: yes, unless the right hand lies beside it and shows that the sign
            is right. Has no meaning for the right hand.
        close_wrist: add the 14 faces that close the mesh at the wrist (1552 faces): needed for volumes and
            inside tests.
        cache: keep the dense conversion of a pickle in hoirt's cache folder, keyed by the file's SHA-256.

    Raises:
        InputError: an option is wrong, or the file is missing, damaged, hostile or not MANO's.
    """
    if side not in (None, "right", "left"):
        raise InputError(f"side must be 'right' or 'left', not {side!r}")
    if pca is not None and (not isinstance(pca, int) or isinstance(pca, bool) or not 1 <= pca <= 45):
        raise InputError(f"pca must be a number of components from 1 to 45, or None, not {pca!r}")
    file, side = _find(path_of(path), side)
    tip_vertices = _tips(tips, side)
    arrays = read(file, cache=cache)
    if side == "left" and (_is_unmirrored(arrays, file, cache) if fix_left is None else fix_left):
        arrays["shape_directions"] = arrays["shape_directions"] * np.array([-1, 1, 1], np.float32)[:, None]
    faces = arrays["faces"]
    keypoints = np.zeros((21, VERTICES), np.float32)
    keypoints[list(JOINT_KEYPOINTS)] = arrays["joint_regressor"][list(JOINT_ORDER)]
    keypoints[list(TIP_KEYPOINTS), tip_vertices] = 1.0
    return HandModel(
        template=arrays["template"],
        faces=np.concatenate([faces, wrist_faces(faces)]) if close_wrist else faces,
        weights=arrays["weights"],
        shape_directions=arrays["shape_directions"],
        joint_regressor=arrays["joint_regressor"],
        keypoint_regressor=keypoints,
        parents=np.array(PARENTS, np.int32),
        side=side,
        pose_directions=arrays["pose_directions"],
        pose_mean=None if flat_hand_mean else arrays["pose_mean"],
        pose_basis=None if pca is None else arrays["pose_components"][:pca],
        mirror_axis=0,
    )


def convert_mano(path: str | os.PathLike[str], output: str | os.PathLike[str]) -> Path:
    """Writes a MANO pickle as dense float32 safetensors, for `load_mano` and other readers; returns the path.

    The constants are as published: no sign is changed. Raises InputError.
    """
    target = path_of(output, "the output")
    if target.suffix != ".safetensors":
        raise InputError(f"{target}: the suffix must be .safetensors")
    write(read(path_of(path), cache=False), target)
    return target


def wrist_faces(faces: NDArray[np.int32]) -> NDArray[np.int32]:
    """Faces (n - 2, 3) that close the one hole of a mesh, of n edges, as a fan that looks outwards.

    Raises:
        InputError: not faces; the mesh has no hole, several, or a boundary that meets itself.
    """
    if not isinstance(faces, np.ndarray) or faces.dtype.kind not in "iu" or faces.shape[1:] != (3,):
        raise InputError("faces must be an array of integers of shape (F, 3)")
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    directed = {(int(a), int(b)) for a, b in edges}
    # The neighbour that is missing would run along each edge the other way round.
    after = {b: a for a, b in directed if (b, a) not in directed}
    if not after or len(after) != sum((b, a) not in directed for a, b in directed):
        raise InputError("the mesh has no hole, or one whose boundary meets itself")
    loop = [min(after)]
    while (following := after[loop[-1]]) != loop[0]:
        loop.append(following)
        if following not in after or len(loop) > len(after):
            raise InputError("the boundary of the mesh is not a closed loop")
    if len(loop) != len(after):
        raise InputError("the mesh has more than one hole")
    return np.array([(loop[0], loop[i], loop[i + 1]) for i in range(1, len(loop) - 1)], np.int32)


def _find(path: Path, side: str | None) -> tuple[Path, str]:
    """The file that `path` means, and its side."""
    if path.is_dir():
        found = {}
        for hand, name in _NAMES.items():
            candidates = [path / f / (name + end) for f in _FOLDERS for end in (".safetensors", ".pkl")]
            existing = [candidate for candidate in candidates if candidate.is_file()]
            if existing and side in (None, hand):
                found[hand] = existing[0]
        if not found:
            wanted = " or ".join(f"{_NAMES[s]}.pkl" for s in _NAMES if side in (None, s))
            raise InputError(f"{path} holds no {wanted}; it can be had from https://mano.is.tue.mpg.de")
        if len(found) == 2:
            raise InputError(f"{path} holds both hands; choose one: side='right' or side='left'")
        hand, file = found.popitem()
        return file, hand
    if side is None:
        stem = path.stem.upper()
        sides = [hand for hand in _NAMES if hand.upper() in stem]
        if len(sides) != 1:
            raise InputError(
                f"{path}: its name does not tell which hand it is; say side='right' or side='left'"
            )
        side = sides[0]
    return path, side


def _tips(tips: str | Sequence[int], side: str) -> list[int]:
    if isinstance(tips, str):
        if tips not in TIPS:
            raise InputError(
                f"tips must be one of {', '.join(map(repr, TIPS))}, or five vertices, not {tips!r}"
            )
        return list(TIPS[tips][side])
    chosen = np.asarray(tips)
    if (
        chosen.shape != (5,)
        or chosen.dtype.kind not in "iu"
        or (chosen < 0).any()
        or (chosen >= VERTICES).any()
    ):
        raise InputError(f"tips must be five vertices from 0 to {VERTICES - 1}, not {tips!r}")
    return [int(vertex) for vertex in chosen]


def _is_unmirrored(left: Arrays, file: Path, cache: bool) -> bool:
    """Whether the left hand's shape directions have the x of the right hand; True where that is missing."""
    beside = file.with_name(file.name.replace("LEFT", "RIGHT"))
    if beside == file or not beside.is_file():
        return True
    right = read(beside, cache=cache)["shape_directions"][:, 0]
    own = left["shape_directions"][:, 0]
    return float(np.abs(own - right).sum()) < float(np.abs(own + right).sum())
