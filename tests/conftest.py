"""Fixtures that several test files share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from hoirt import Refiner

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported by anyone
sys.path.insert(
    0, str(Path(__file__).parents[1])
)  # `export` is a package of the repository; the wheel has it as hoirt_export


@pytest.fixture(scope="session")
def random_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A verified pack of the real classes with random weights: crop 64, VAE factor 4, four DDIM steps.

    Its detector finds saturated red blobs (left hands if green > blue in them), its mesh is a flattened ball.
    """
    from export.tiny.random_pack import make_random_pack

    return make_random_pack(tmp_path_factory.mktemp("packs") / "random")


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of compiled networks of its own, so that tests neither read nor fill the user's."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOIRT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def refiner(random_pack: Path, cache_folder: Path) -> Refiner:
    """The random pack, open; 64-pixel crops, four steps."""
    import hoirt

    return hoirt.Refiner(random_pack)


@pytest.fixture
def pack(random_pack: Path, tmp_path: Path) -> Path:
    """A copy of the random pack to damage, in a folder with a secret beside it."""
    from pack_tools import copy_pack

    (tmp_path / "secret.bin").write_bytes(bytes(1 << 16))
    return copy_pack(random_pack, tmp_path / "pack")
