"""Paths from callers: what is none, is an InputError at every entry point that takes one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hoirt
import numpy as np
import pytest
from hoirt import InputError
from hoirt.hands.landmarker import Landmarker
from hoirt.hands.mano import convert_mano
from hoirt.imaging import load, save
from hoirt.packs import open_pack
from hoirt.paths import path_of
from hoirt.render.read import read_mesh
from hoirt.render.scene import read_scene

TAKES_A_PATH: dict[str, Callable[[Any], object]] = {
    "path_of": path_of,
    "load": load,
    "save": lambda path: save(np.zeros((4, 4, 3), np.uint8), path),
    "open_pack": open_pack,
    "load_mano": hoirt.load_mano,
    "convert_mano": lambda path: convert_mano("MANO_RIGHT.pkl", path),
    "load_motion": hoirt.load_motion,
    "read_mesh": read_mesh,
    "read_scene": read_scene,
    "landmarker": Landmarker,
}


class Bytes:
    """A path-like object of bytes, as os.PathLike allows."""

    def __fspath__(self) -> bytes:
        return b"a.png"


@pytest.mark.parametrize("name", TAKES_A_PATH)
@pytest.mark.parametrize(
    "wrong", [3, None, Bytes(), 300 * "a" + ".png", "a/" * 3000], ids=lambda w: str(w)[:8]
)
def test_what_is_no_path(name: str, wrong: object) -> None:
    with pytest.raises(InputError):
        TAKES_A_PATH[name](wrong)


def test_a_home_that_nobody_has() -> None:
    with pytest.raises(InputError, match="nobody-of-that-name"):
        open_pack("~nobody-of-that-name/pack")


def test_what_a_path_may_be(tmp_path: Path) -> None:
    assert path_of("a/b.png") == Path("a/b.png") and path_of(tmp_path) == tmp_path
    with pytest.raises(InputError, match=r"the output '.*' cannot be used: File name too long"):
        path_of(300 * "x", "the output")
