"""Fixtures that several test files share."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from build_tools import Built
    from hoirt import Refiner

    from export.int8.pack import Report

# Their asserts tell values like those of tests; that must be said before they are imported.
pytest.register_assert_rewrite("repair_cuda_tools", "tensorrt_tools")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported by anyone
with suppress(ImportError):  # the device tests run without it, too
    import hypothesis

    hypothesis.settings.register_profile("hoirt", deadline=None)  # a busy machine is no failure
    hypothesis.settings.load_profile("hoirt")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's `&` does that, and children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(
    0, str(Path(__file__).parents[1])
)  # `export` is a package of the repository; the wheel has it as hoirt_export


if os.environ.get("HOIRT_PLAYED_CUDA"):
    import played_cuda

    played_cuda.install()

    @pytest.fixture(autouse=True)
    def _rules_of_cuda() -> Iterator[None]:
        yield
        assert played_cuda.faults() == []


@pytest.fixture(scope="session")
def random_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A verified pack of the real classes with random weights: crop 64, VAE factor 4, four DDIM steps.

    Its detector finds saturated red blobs (left hands if green > blue in them), its mesh is a flattened ball.
    """
    from export.tiny.random_pack import make_random_pack

    return make_random_pack(tmp_path_factory.mktemp("packs") / "random")


@pytest.fixture(scope="session")
def int8_report(random_pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The random pack with its step in int8, and what making it found."""
    from export.int8.pack import quantize_pack

    return quantize_pack(random_pack, tmp_path_factory.mktemp("packs") / "int8", count=2, threads=1)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of compiled networks for one file of tests, which torch makes with one thread."""
    import torch

    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("home")
        patch.setenv("HOIRT_CACHE", str(folder))
        yield folder


@pytest.fixture(params=["cpu", "cuda:0"])
def place(request: pytest.FixtureRequest) -> str:
    """The name of a device that works here."""
    from device_tools import device

    device(request.param)
    return str(request.param)


@pytest.fixture(scope="session")
def cuda() -> Any:
    """The module _core_cuda, where it has a device."""
    from device_tools import device

    device("cuda:0")
    return pytest.importorskip("hoirt._core_cuda")


@pytest.fixture(scope="session")
def sdxl_inpainting(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A tiny SDXL that inpaints, built from the folders of diffusers."""
    from build_tools import build_from

    return build_from(tmp_path_factory.mktemp("sdxl-inpainting"), "sdxl", "diffusers", control="diffusers")


@pytest.fixture(scope="session")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A tiny SDXL as published in a single file, with a ControlNet's file of diffusers."""
    from build_tools import build_from

    folder = tmp_path_factory.mktemp("sdxl")
    return build_from(folder, "sdxl", "single_file", inpaint=False, control="diffusers_file")


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
