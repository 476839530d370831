"""What `hoirt pack build handrefiner` was asked for, checked as far as that goes without opening a model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile, ZipFile

from hoirt.errors import InputError

Precision = Literal["fp32", "bf16", "fp16", "int8"]
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
LANDMARKER_PARTS = {"hand_detector.tflite", "hand_landmarks_detector.tflite"}
LARGEST_LANDMARKER = 256 << 20
# The negative prompt of HandRefiner's released code.
NEGATIVE = (
    "fake 3D rendered image, longbody, lowres, bad anatomy, bad hands, missing fingers, extra digit, fewer "
    "digits, cropped, worst quality, low quality, blue"
)


@dataclass(frozen=True)
class Request:
    """base, controlnet, ...: paths as given; controlnet None: it is in the base's file. loras: with scales.

    mesh_data: the folder of MANO's template and adjacency of MeshGraphormer; None: that of `mesh`.
    """

    base: Path
    out: Path
    controlnet: Path | None = None
    mesh: Path | None = None
    mano: Path | None = None
    mesh_data: Path | None = None
    hands: Path | None = None
    loras: tuple[tuple[Path, float], ...] = ()
    tokenizer: Path | None = None
    precision: Precision = "fp32"
    name: str | None = None
    steps: int = 20
    guidance: float = 9.0
    strength: float = 0.55
    pictures: Path | None = None
    overwrite: bool = False

    def inputs(self) -> dict[str, Path]:
        """All paths that must exist, by the option that named them."""
        named = {
            "--base": self.base,
            "--controlnet": self.controlnet,
            "--mesh": self.mesh,
            "--mano": self.mano,
            "--mesh-data": self.mesh_data,
            "--hands": self.hands,
            "--tokenizer": self.tokenizer,
            "--pictures": self.pictures,
        }
        found = {option: path for option, path in named.items() if path is not None}
        return found | {f"--lora {i + 1}": path for i, (path, _) in enumerate(self.loras)}

    def check(self) -> None:
        """Raises InputError: missing files (all of them), options that do not go together, a wrong name."""
        missing = [f"{option} {path}" for option, path in self.inputs().items() if not path.exists()]
        if missing:
            raise InputError(f"no such file or folder: {', '.join(missing)}")
        if (self.mesh is None) != (self.mano is None):
            raise InputError(
                "--mesh and --mano belong together: MeshGraphormer's weights, and MANO_RIGHT.pkl for its "
                "template, faces and joints"
            )
        if self.name is not None and not NAME.fullmatch(self.name):
            raise InputError(
                f"--name {self.name!a}: use up to 64 letters, digits, '.', '_' and '-', such as hands-2"
            )
        if self.controlnet is None and self.base.is_dir():
            raise InputError("--controlnet is missing; only a checkpoint in one file can hold it too")
        if self.out.exists():
            if not self.overwrite:
                raise InputError(f"{self.out} exists; --overwrite replaces it")
            if not (self.out / "pack.json").is_file():
                raise InputError(f"{self.out} exists and is no pack; only a pack is overwritten")
        if self.hands is not None:
            check_landmarker(self.hands)

    @property
    def pack_name(self) -> str:
        """The given one, else the folder's, else a plain one."""
        return self.name or (self.out.name if NAME.fullmatch(self.out.name) else "handrefiner")


def check_landmarker(path: Path) -> None:
    """Raises InputError unless the file is a hand_landmarker.task: a zip of two tflite models."""
    try:
        if path.stat().st_size > LARGEST_LANDMARKER:
            raise InputError(f"{path}: too large for a hand_landmarker.task")
        with ZipFile(path) as archive:
            names = set(archive.namelist())
    except (BadZipFile, IsADirectoryError):
        raise InputError(
            f"{path}: not mediapipe's hand_landmarker.task, which is a zip of two models"
        ) from None
    if not names >= LANDMARKER_PARTS:
        raise InputError(
            f"{path}: not a hand_landmarker.task: it has {ascii(sorted(names))[:200]}, needed are "
            f"{', '.join(sorted(LANDMARKER_PARTS))}"
        )
