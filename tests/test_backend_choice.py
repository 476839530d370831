"""The choice of a device and a backend: what "auto" takes, what is kept of the rest, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hoirt
import pytest
from hoirt import BackendError, InputError, PackError
from hoirt.backends import choice, choose, registry
from hoirt.backends.choice import parse_device
from hoirt.backends.networks import precision_for
from hoirt.packs import Pack, open_pack
from pack_tools import copy_pack, edit_manifest


class Pretended:
    """A backend that opens nothing and says what it is told to."""

    version = "1"
    keyed_by_threads = False

    def __init__(self, name: str, devices: tuple[str, ...], obstacle: str = "", fails: str = "") -> None:
        self.name, self.devices, self._obstacle, self._fails = name, devices, obstacle, fails
        self.automatic = devices

    def load(self, name: str) -> Pretended:
        if self._fails:
            raise BackendError(self._fails)
        return self

    def precisions(self, device: str = "cpu") -> list[str]:
        return ["fp16", "fp32"]

    def model(self, device: str) -> str | None:
        return device

    def obstacle(self, pack: Pack, *, device: str, precision: str) -> str:
        return self._obstacle

    def open(self, path: str, **options: Any) -> Any:
        raise AssertionError("nothing is opened by choosing")


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the backends; and that this machine has `devices` CUDA devices."""

    def replace(*backends: Pretended, devices: int = 1) -> None:
        monkeypatch.setattr(registry, "_RUNTIMES", {backend.name: backend for backend in backends})
        monkeypatch.setattr(registry, "_loaded", {})
        monkeypatch.setattr(
            choice, "cuda_obstacle", lambda index=0: "" if index < devices else f"no device {index}"
        )

    return replace


BOTH = ("cpu", "cuda")


def test_devices_that_are_meant() -> None:
    assert [parse_device(text) for text in ("auto", "cpu", "cuda", "cuda:1", "cuda:07")] == [
        "auto",
        "cpu",
        "cuda:0",
        "cuda:1",
        "cuda:7",
    ]
    for wrong in ("CUDA", "cuda:", "cuda:-1", "cuda: 1", "gpu", "", None, 0, "cuda:1\n"):
        with pytest.raises(InputError, match="device must be"):
            parse_device(wrong)  # type: ignore[arg-type]


def test_the_first_that_works_and_why_not_the_others(pretend: Any, random_pack: Path) -> None:
    pretend(
        Pretended("a", ("cuda",), fails="a is not installed"),
        Pretended("b", ("cuda",), obstacle="b has no package"),
        Pretended("c", BOTH),
        Pretended("d", BOTH),
    )
    for device in ("auto", "cuda"):
        found = choose(device, pack=open_pack(random_pack))
        assert (found.backend.name, found.device) == ("c", "cuda:0")
        assert found.reasons == {"a": "a is not installed", "b": "b has no package"}


def test_auto_takes_the_cpu_where_cuda_cannot_run_the_pack(pretend: Any, random_pack: Path) -> None:
    pack = open_pack(random_pack)
    pretend(Pretended("a", ("cuda",), obstacle="a has no package"), Pretended("b", ("cpu",)))
    found = choose("auto", pack=pack)
    assert (found.backend.name, found.device) == ("b", "cpu")
    assert found.reasons == {"cuda": "a has no package"}
    with pytest.raises(BackendError, match="a has no package"):
        choose("cuda", pack=pack)
    pretend(Pretended("a", BOTH), devices=0)
    found = choose("auto", pack=pack)
    assert (found.device, found.reasons) == ("cpu", {"cuda": "no device 0"})
    with pytest.raises(BackendError, match="no device 3"):
        choose("cuda:3", pack=pack)


def test_a_name_is_never_replaced(pretend: Any, random_pack: Path) -> None:
    pack = open_pack(random_pack)
    pretend(Pretended("a", ("cpu",), obstacle="a cannot"), Pretended("b", ("cpu",)))
    with pytest.raises(BackendError, match="a cannot"):
        choose("cpu", "a", pack=pack)
    with pytest.raises(BackendError, match="a cannot"):
        choose("auto", "a", pack=pack)
    with pytest.raises(BackendError, match="b cannot run on cuda:0"):
        choose("cuda", "b", pack=pack)
    with pytest.raises(InputError, match="'c'"):
        choose("cpu", "c")


def test_precision_is_one_that_the_backend_runs(pretend: Any, random_pack: Path) -> None:
    pack = open_pack(random_pack)
    pretend(Pretended("a", ("cpu",)))
    assert choose("cpu", pack=pack, precision="fp16").precision == "fp16"
    with pytest.raises(BackendError, match="a cannot run bf16 on cpu; it can run fp16, fp32"):
        choose("cpu", pack=pack, precision="bf16")
    with pytest.raises(InputError, match="precision must be"):
        choose("cpu", pack=pack, precision="fp64")
    with pytest.raises(InputError, match="not quantised"):
        choose("cpu", pack=pack, precision="int8")


def test_a_refiner_tells_its_device_and_the_reasons(refiner: hoirt.Refiner) -> None:
    assert refiner.device == "cpu" and refiner.backend == "openvino"
    assert list(refiner.backend_reasons) == ["cuda"] and refiner.backend_reasons["cuda"]


def test_the_doctor_shows_what_auto_takes() -> None:
    report = hoirt.doctor()["automatic"]
    assert report["cpu"] == "openvino"
    if report["cuda"].startswith("none: "):
        assert len(report["cuda"]) > len("none: ")


def test_an_autoencoder_beyond_float16_runs_in_float32(random_pack: Path, tmp_path: Path) -> None:
    def upcast(value: object) -> Pack:
        pack = copy_pack(random_pack, tmp_path / str(value))
        edit_manifest(pack, lambda manifest: manifest["settings"]["vae"].update(upcast=value))
        return open_pack(pack)

    for pack, found in ((open_pack(random_pack), "fp16"), (upcast(False), "fp16"), (upcast(True), "fp32")):
        assert precision_for(pack, "vae_encoder", "fp16", "cuda:0") == found
        assert precision_for(pack, "vae_decoder", "fp16", "cuda:0") == found
        assert precision_for(pack, "vae_decoder", "bf16", "cuda:0") == "bf16"
        assert precision_for(pack, "step", "fp16", "cuda:0") == "fp16"
    with pytest.raises(PackError, match=r"settings\.vae\.upcast: .*expected true or false"):
        upcast("yes")
