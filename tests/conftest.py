"""Fixtures that several test files share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported by anyone
sys.path.insert(
    0, str(Path(__file__).parents[1])
)  # `export` is a package of the repository, not of the wheel


@pytest.fixture(scope="session")
def random_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A verified pack of the real classes with random weights: crop 64, VAE factor 4, four DDIM steps.

    Its detector finds saturated red blobs (left hands if green > blue in them), its mesh is a flattened ball.
    """
    from export.tiny.random_pack import make_random_pack

    return make_random_pack(tmp_path_factory.mktemp("packs") / "random")
