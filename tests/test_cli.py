"""The command line: exit codes, globs, folders, the sheet, broken files and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import hoirt
import numpy as np
import pytest
from hoirt.cli import demo
from hoirt.cli.files import UsageError, is_animated, pictures, targets
from hoirt.cli.main import main
from hoirt.imaging import save
from PIL import Image


def blob(seed: int = 0) -> np.ndarray:
    """A red disc, which the random pack takes for a hand, on noise."""
    picture = np.random.default_rng(seed).integers(60, 120, (80, 100, 3)).astype(np.uint8)
    y, x = np.mgrid[:80, :100]
    picture[(y - 40) ** 2 + (x - 50) ** 2 < 15**2] = (230, 30, 60)
    return picture


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Two good pictures, a broken one and a text file."""
    folder = tmp_path / "album"
    folder.mkdir()
    save(blob(0), folder / "a.png")
    save(blob(1), folder / "b.jpg")
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:300])
    (folder / "notes.txt").write_text("not a picture")
    return folder


@pytest.fixture
def refine(random_pack: Path, cache_folder: Path) -> list[str]:
    return ["refine", "--pack", str(random_pack), "--steps", "1"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_one_file_to_one_file(
    refine: list[str], album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "repaired.webp"
    assert main([*refine, str(album / "a.png"), "-o", str(out), "--prompt", "a fist", "--seed", "3"]) == 0
    assert names(out.parent) == ["repaired.webp"]
    assert Image.open(out).size == (100, 80)
    printed = capsys.readouterr()
    assert "refined, 1 hand" in printed.out and printed.err == ""  # no bar where there is no terminal


def test_what_the_networks_run_with(
    refine: list[str], album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = [*refine, str(album / "a.png"), "-o", str(tmp_path / "out.png")]
    assert main([*job, "--device", "cpu", "--backend", "onnxruntime", "--precision", "fp32"]) == 0
    capsys.readouterr()
    assert main([*job, "--device", "tpu"]) == 1 and "tpu" in capsys.readouterr().err
    assert main([*job, "--device", "cpu", "--backend", "tensorrt"]) == 1
    assert "tensorrt" in capsys.readouterr().err
    assert main([*job, "--threads", "0"]) == 2
    assert "between 1 and 1024" in capsys.readouterr().err


def test_of_several_frames_the_first_is_taken_and_that_is_said(
    refine: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *more = (Image.fromarray(blob(seed)) for seed in range(3))
    first.save(tmp_path / "three.gif", save_all=True, append_images=more)
    first.save(tmp_path / "preview.jpg", format="MPO", save_all=True, append_images=more[:1])
    assert (
        main(
            [*refine, str(tmp_path / "three.gif"), str(tmp_path / "preview.jpg"), "-o", str(tmp_path / "out")]
        )
        == 0
    )
    gif, jpeg = capsys.readouterr().out.splitlines()
    assert gif.endswith("; its first frame, of several") and "; its first" not in jpeg
    whole = (tmp_path / "three.gif").read_bytes()
    cut = tmp_path / "cut.gif"
    for size in range(0, len(whole), 97):  # wherever the later frames are damaged
        cut.write_bytes(whole[:size])
        assert is_animated(cut) in (True, False)
    assert not is_animated(tmp_path / "gone.gif")


def test_names_and_prompts_of_another_encoding(
    random_pack: Path, cache_folder: Path, album: Path, tmp_path: Path
) -> None:
    """As the shell passes them on, to a terminal that knows nothing but ASCII."""
    (album / "broken.png").unlink()
    os.rename(os.fsencode(album / "a.png"), os.fsencode(album) + b"/caf\xe9.png")  # noqa: PTH104
    command = [sys.executable, "-m", "hoirt", "refine", "--pack", str(random_pack), "--steps", "1"]
    command += [str(album), "-o", str(tmp_path / "out")]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, env=environment, check=False, timeout=120)
    assert done.returncode == 0 and b"caf\\udce9.png: refined" in done.stdout
    wrong = [*command[:-2], "--prompt", os.fsdecode(b"caf\xe9"), "-o", str(tmp_path / "more")]
    done = subprocess.run(wrong, capture_output=True, env=environment, check=False, timeout=120)
    assert done.returncode == 1 and b"no valid Unicode" in done.stderr and b"Traceback" not in done.stderr


def test_folder_with_a_broken_file(
    refine: list[str], album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, sheet = tmp_path / "out", tmp_path / "sheets" / "sheet.png"
    before = {path: path.read_bytes() for path in album.iterdir()}
    assert main([*refine, str(album), "-o", str(out), "--report", str(sheet), "--jobs", "2"]) == 1
    assert names(out) == ["a.png", "b.jpg"]  # nothing half-written
    assert Image.open(sheet).height > 2 * 200
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and "broken.png" in printed.err
    assert {path: path.read_bytes() for path in album.iterdir()} == before
    mask_free = np.asarray(Image.open(out / "a.png"))[0]
    assert np.array_equal(mask_free, blob(0)[0])


def test_where_the_hands_are_and_how_they_are_drawn(
    refine: list[str], album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.png"
    boxes = ["--box", "30,20,70,60", "--box", "5,5,25,25"]
    assert main([*refine, str(album / "a.png"), "-o", str(out), *boxes, "--scheduler", "Euler"]) == 0
    assert "2 hands" in capsys.readouterr().out
    assert main([*refine, str(album / "a.png"), "-o", str(out), "--strength", "adaptive"]) == 0
    assert "tried" in capsys.readouterr().out
    mask = tmp_path / "mask.png"
    save(np.pad(np.full((30, 30), 255, np.uint8), ((20, 30), (40, 30))), mask)
    assert (
        main([*refine, str(album / "a.png"), "-o", str(out), "--mask", str(mask), "--no-colour-match"]) == 0
    )
    changed = (np.asarray(Image.open(out)) != blob(0)).any(axis=2)
    assert changed.any() and not changed[np.asarray(Image.open(mask)) == 0].any()


def test_faithful_wants_the_sizes_of_the_release(
    refine: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = np.pad(blob(0), ((0, 16), (0, 28), (0, 0)))  # 96 x 128
    save(whole, tmp_path / "whole.png")
    save(blob(0), tmp_path / "odd.png")
    out = tmp_path / "out.png"
    assert main([*refine, str(tmp_path / "whole.png"), "-o", str(out), "--faithful"]) == 0
    assert main([*refine, str(tmp_path / "odd.png"), "-o", str(out), "--faithful"]) == 1
    assert "multiples of" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        ["--box", "1,2,3"],
        ["--box", "a,b,c,d"],
        ["--strength", "strong"],
        ["--preview", "2"],
        ["--guidance-interval", "0.5"],
        ["--reuse", "all"],
        ["--hands", "left"],
    ],
)
def test_wrong_options_are_wrong_usage(
    refine: list[str], album: Path, tmp_path: Path, options: list[str]
) -> None:
    assert main([*refine, str(album / "a.png"), "-o", str(tmp_path / "a.png"), *options]) == 2


def test_a_box_is_for_one_picture(
    refine: list[str], album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*refine, str(album), "-o", str(tmp_path / "out"), "--box", "1,2,30,40"]) == 2
    assert "--box is for one picture" in capsys.readouterr().err


def test_debug_shows_the_trace(
    refine: list[str], album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*refine, str(album / "broken.png"), "-o", str(tmp_path / "out"), "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_globs_doubles_and_equal_names(album: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    save(blob(), other / "a.png")
    found = pictures([str(album / "*.png"), str(album / "a.png"), str(other)])
    assert found == [album / "a.png", album / "broken.png", other / "a.png"]
    assert pictures([str(tmp_path / "**" / "a.*")]) == [album / "a.png", other / "a.png"]
    out = tmp_path / "out"
    assert targets(found, out) == [out / "a.png", out / "broken.png", out / "a_2.png"]
    assert targets([Path("x.psd")], out) == [out / "x.png"]
    assert pictures(["missing.png"]) == [Path("missing.png")]  # reported when its turn comes


def test_inputs_are_never_overwritten(
    refine: list[str], album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link.png").symlink_to(album / "a.png")
    for out in (album, album / "a.png", tmp_path / "link.png"):
        with pytest.raises(UsageError, match="never overwritten"):
            targets([album / "a.png"], out)
    before = (album / "a.png").read_bytes()
    assert main([*refine, str(album / "a.png"), "-o", str(album)]) == 2
    assert main([*refine, str(album / "a.png"), "-o", str(tmp_path), "--report", str(album / "a.png")]) == 2
    assert (album / "a.png").read_bytes() == before
    assert "never overwritten" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["refine"],
        ["refine", "a.png"],
        ["refine", "a.png", "-o", "x", "--strength", "9"],
        ["refine", "a.png", "-o", "x", "--strength", "nan"],
        ["refine", "a.png", "-o", "x", "--steps", "many"],
        ["refine", "a.png", "-o", "x", "--region", "hand"],
        ["refine", "*.nothing", "-o", "x"],
        ["refine", ".", "-o", "x"],
        ["refine", "a.png", "-o", "x", "--report", "sheet"],
        ["refine", "a.png", "b.png", "-o", "file.txt"],
    ],
)
def test_wrong_usage(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").write_text("mine")
    assert main(arguments) == 2
    assert names(tmp_path) == ["file.txt"]
    assert "Traceback" not in capsys.readouterr().err


def test_help_version_and_missing_pack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0 and main(["refine", "--help"]) == 0
    assert main(["--version"]) == 0
    assert hoirt.__version__ in capsys.readouterr().out
    assert main(["refine", "a.png", "-o", str(tmp_path / "x.png"), "--pack", "no-such-pack"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "no-such-pack" in error
    assert names(tmp_path) == []


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert code == (0 if report["healthy"] else 1)
    assert main(["doctor"]) == code
    assert "backends" in capsys.readouterr().out


def test_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "hoirt", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"hoirt {hoirt.__version__}\n", "")
    done = subprocess.run([sys.executable, "-m", "hoirt", "refine"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("usage: hoirt refine")


def test_demo(
    random_pack: Path,
    cache_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    monkeypatch.setattr(demo, "PICTURES", shelf)
    arguments = ["demo", "--pack", str(random_pack), "-o", str(tmp_path / "out")]
    assert main(arguments) == 1 and "no demo pictures" in capsys.readouterr().err
    save(blob(), shelf / "hand.png")
    (shelf / "prompts.json").write_text(json.dumps({"hand.png": "a fist"}))
    assert main(arguments) == 0
    assert names(tmp_path / "out") == ["hand_after.png", "hand_before.png", "sheet.png"]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "hand_before.png")), blob())


def test_ctrl_c_keeps_what_is_whole(random_pack: Path, cache_folder: Path, tmp_path: Path) -> None:
    """The first picture is done and the second in its 900 steps when the signal comes."""
    album, out = tmp_path / "album", tmp_path / "out"
    album.mkdir()
    save(np.full((40, 40, 3), 90, np.uint8), album / "a.png")
    save(blob(), album / "b.png")
    command = [sys.executable, "-m", "hoirt.cli.main", "refine", str(album), "-o", str(out)]
    command += ["--pack", str(random_pack), "--steps", "900", "--report", str(tmp_path / "sheet.png")]
    # What a shell starts in the background ignores SIGINT, and so do its children unless told otherwise.
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as run:
        assert run.stdout is not None
        first = run.stdout.readline()
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=120)
    assert "a.png" in first and "no hand" in first
    assert run.returncode == 130
    assert "interrupted" in errors and "Traceback" not in errors
    assert names(out) == ["a.png"]
    assert (tmp_path / "sheet.png").is_file()
