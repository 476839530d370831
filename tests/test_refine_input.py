"""Whatever is wrong with the arguments of refine() is a typed error that names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hoirt
import numpy as np
import pytest
from blobs import scene


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strength": -0.1}, "strength"),
        ({"strength": 1.6}, "strength"),
        ({"strength": float("nan")}, "strength"),
        ({"strength": "much"}, "strength"),
        ({"steps": 0}, "steps"),
        ({"steps": 2.5}, "steps"),
        ({"guidance": -1}, "guidance"),
        ({"region": "hand"}, '"crop" or "frame"'),
        ({"scheduler": 3}, "scheduler"),
        ({"scheduler": {"_class_name": "DDIMScheduler", "speed": 9}}, "speed"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"seed": 1.0}, "seed"),
        ({"seed": [1, 2]}, "seed"),
        ({"prompt": None}, "prompt"),
        ({"prompt": ["a"]}, "prompt"),
        ({"prompt": "caf\udce9"}, "no valid Unicode"),
        ({"negative_prompt": 3}, "negative_prompt"),
        ({"on_step": 3}, "on_step"),
        ({"cancel": 3}, "CancelToken"),
        ({"noise": np.zeros(3)}, "noise"),
        ({"noise": np.full((1, 1, 4, 16, 16), np.nan)}, "noise"),
        ({"noise": "x"}, "noise"),
        ({"hands": 3}, 'hands must be "all"'),
        ({"hands": [(1, 2, 3)]}, r"hands\[0\]"),
        ({"hands": [(5, 5, 1, 1)]}, "empty or outside"),
        ({"hands": [(900, 900, 990, 990)]}, "empty or outside"),
        ({"hands": [(0, 0, float("nan"), 9)]}, "NaN"),
        ({"hands": ["left"]}, r"hands\[0\]"),
        ({"hands": [(0, 0, 9, 9)] * 65}, "at most 64"),
        ({"mask": np.zeros((3, 3), np.uint8)}, "mask is 3 x 3"),
        ({"mask": np.full((120, 160), np.nan)}, "NaN"),
        ({"mask": "nowhere.png"}, "nowhere.png"),
        ({"depth": np.zeros((3, 3), np.uint8)}, "depth is 3 x 3"),
        ({"depth": np.full((120, 160), 3.0)}, "0..1"),
    ],
)
def test_wrong_arguments(refiner: hoirt.Refiner, options: dict[str, Any], words: str) -> None:
    with pytest.raises(hoirt.InputError, match=words):
        refiner(scene(), **options)


@pytest.mark.parametrize(
    "image",
    [None, 3, "", "missing.png", np.zeros((0, 3, 3), np.uint8), np.full((9, 9, 3), np.inf), np.zeros(3)],
)
def test_wrong_pictures(refiner: hoirt.Refiner, image: Any) -> None:
    with pytest.raises(hoirt.InputError):
        refiner(image)
    with pytest.raises(hoirt.InputError):
        refiner.detect(image)


def test_wrong_refiners(random_pack: Path, tmp_path: Path) -> None:
    for options, kind in (
        ({"pack": "no-such-pack"}, hoirt.InputError),
        ({"pack": tmp_path}, hoirt.PackError),
        ({"device": "cuda"}, hoirt.BackendError),
        ({"device": "abacus"}, hoirt.InputError),
        ({"device": "cuda:x"}, hoirt.InputError),
        ({"device": None}, hoirt.InputError),
        ({"precision": "fp7"}, hoirt.InputError),
        ({"precision": "fp8", "backend": "openvino"}, hoirt.BackendError),
        ({"threads": 0}, hoirt.InputError),
        ({"threads": 1025}, hoirt.InputError),
        ({"backend": "abacus"}, hoirt.InputError),
    ):
        with pytest.raises(kind):
            hoirt.Refiner(**{"pack": random_pack, **options})  # type: ignore[arg-type]
