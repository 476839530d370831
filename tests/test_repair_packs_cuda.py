"""Whole repairs on a GPU that the CPU plays, of packs with more networks: feature reuse, and SDXL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from build_tools import Built
from hoirt.backends.tensorrt import Profile
from repair_cases import DEPTH
from repair_cuda_tools import CALL, NEEDS_PLAYED_GPU, check, noise, on_cpu, on_gpu

from export.tiny.random_pack import make_random_pack

pytest_plugins = ["repair_cuda_tools"]
pytestmark = NEEDS_PLAYED_GPU


@pytest.fixture(scope="module")
def reuse_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_random_pack(tmp_path_factory.mktemp("reuse") / "pack", feature_reuse=True)


@pytest.mark.parametrize("reuse", ["control", "deep"])
def test_feature_reuse(tensorrt: Any, reuse_pack: Path, reuse: str) -> None:
    call = CALL | {"reuse": reuse, "prompt": ""}
    check(on_gpu(reuse_pack)(noise(), **call), on_cpu(reuse_pack)(noise(), **call))


def test_sdxl(tensorrt: Any, sdxl: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two text encoders, and times that depend on the prompt and on the region's size."""
    small = Profile(batch=(1, 2, 4), pixels=(64, 128, 256))  # by default they are around 1024 x 1024
    monkeypatch.setattr("hoirt.backends.tensorrt.backend.default_profiles", lambda path: (small,))
    call: dict[str, Any] = {"prompt": ["a hand", "a fist"], "seed": [1, 2], "hands": [[], []], "batch": 2}
    call |= {"depth": [DEPTH, DEPTH], "region": "frame", "steps": 2}
    pictures = [noise(), noise(seed=1)]
    for found, expected in zip(
        on_gpu(sdxl.path)(pictures, **call), on_cpu(sdxl.path)(pictures, **call), strict=True
    ):
        assert found.status == "refined", found.error
        check(found, expected)
