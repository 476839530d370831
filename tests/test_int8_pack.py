"""An int8 pack of a pack: what it gives beside its source, what the Refiner does with it, the command."""

from __future__ import annotations

import json
from pathlib import Path

import hoirt
import numpy as np
import pytest
from blobs import outside_is_identical, scene
from hoirt.backends.choice import arithmetic_of
from hoirt.cli.main import main
from hoirt.errors import InputError
from hoirt.packs import open_pack
from pack_tools import load_manifest

from export.int8.pack import Report, quantize_pack


def test_the_new_pack_differs_in_its_step_only(random_pack: Path, int8_report: Report) -> None:
    before, after = open_pack(random_pack), open_pack(int8_report.path)
    assert after.verified and after.settings.precision == "int8"
    assert before.manifest.networks == after.manifest.networks
    old, new = before.manifest.files, after.manifest.files
    assert {name for name in old if old[name] != new[name]} == {"step.onnx", "step.bin"}
    assert int8_report.bytes_after < 0.4 * int8_report.bytes_before and int8_report.states == 8
    assert after.manifest.provenance["int8"]["layers"] == int8_report.layers > 50


def test_the_trained_step_stays_close(tmp_path: Path) -> None:
    report = quantize_pack("handrefiner-tiny", tmp_path / "int8", count=2, threads=1)
    assert 1e-3 < report.error < 0.04


def test_automatic_precision_is_int8_and_the_picture_stays_close(
    random_pack: Path, int8_report: Report, cache_folder: Path
) -> None:
    picture = scene(hands=1)
    refiner = hoirt.Refiner(int8_report.path, threads=1)
    assert refiner.precision == "int8"
    found = refiner(picture, prompt="an open palm")
    wanted = hoirt.Refiner(random_pack, precision="fp32", threads=1)(picture, prompt="an open palm")
    assert found.status == "refined" and outside_is_identical(picture, found)
    inside = found.mask == 1
    difference = np.abs(np.asarray(found.image).astype(int) - np.asarray(wanted.image))[inside]
    assert 0 < difference.mean() < 8


def test_an_int8_pack_runs_its_other_layers_in_what_is_asked_for(
    int8_report: Report, cache_folder: Path
) -> None:
    refiner = hoirt.Refiner(int8_report.path, precision="fp32", threads=1)
    assert refiner.precision == "fp32"
    assert refiner(scene(hands=1)).status == "refined"


def test_int8_of_a_pack_that_is_not_quantised_is_refused(random_pack: Path) -> None:
    with pytest.raises(InputError, match=r"not quantised to int8.*--precision int8"):
        hoirt.Refiner(random_pack, precision="int8")


def test_the_rest_of_an_int8_pack_runs_in_the_fastest_of_the_backend() -> None:
    assert arithmetic_of("int8", ["bf16", "fp32"]) == "bf16"
    assert arithmetic_of("int8", ["fp32", "bf16"]) == "fp32"
    assert arithmetic_of("fp16", ["bf16", "fp32", "fp16"]) == "fp16"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "at least 1 picture"),
        ({"precision": "fp16"}, "precision must be one of"),
        ({"pictures": Path("nowhere")}, "not a folder"),
    ],
)
def test_wrong_arguments_are_refused_and_leave_nothing(
    random_pack: Path, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        quantize_pack(random_pack, tmp_path / "int8", **options)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_existing_folders_and_quantised_packs_are_refused(
    random_pack: Path, int8_report: Report, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="quantised already"):
        quantize_pack(int8_report.path, tmp_path / "twice")
    with pytest.raises(InputError, match="choose another folder"):
        quantize_pack(random_pack, random_pack, overwrite=True)
    with pytest.raises(FileExistsError):
        quantize_pack(random_pack, int8_report.path)
    with pytest.raises(InputError, match="no pack"):
        quantize_pack(tmp_path / "nothing", tmp_path / "int8")
    assert not list(tmp_path.iterdir())


def test_command(random_pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "int8"
    given = ["pack", "quantize", str(random_pack), "-o", str(out), "--count", "1", "--threads", "1"]
    assert main([*given, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["path"] == str(out) and 0 < told["error"] < 1
    assert load_manifest(out)["settings"]["precision"] == "int8"
    assert main(given) == 1
    assert "add --overwrite" in capsys.readouterr().err
    assert main([*given[:-4], "--count", "0", "--overwrite"]) == 1
    assert "--count must be 1 or more" in capsys.readouterr().err
    assert main(["pack", "quantize", str(tmp_path / "nothing"), "-o", str(tmp_path / "b")]) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["int8"]
