"""`hoirt render`: scenes and meshes to folders and videos, exit codes, nothing half-written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import hoirt
import numpy as np
import pytest
from hoirt.cli.main import main
from hoirt.render.scene import read_scene
from PIL import Image
from test_render_scene import scene_file


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    inside = tmp_path / "scene"
    inside.mkdir()
    return scene_file(inside)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_scene_becomes_pictures(scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "out"
    outputs = ("handrefiner", "pam-segmentation", "keypoints", "depth-mm", "segmentation-ids")
    flags = [part for name in outputs for part in ("-w", name)]
    assert main(["render", str(scene), "-o", str(out), *flags]) == 0
    assert names(out) == sorted(f"{name}_0000{n}.png" for name in outputs for n in (0, 1))
    printed = capsys.readouterr()
    assert "depth-mm_*.png: 2 frames" in printed.out and printed.err == ""
    given = read_scene(scene)
    maps = hoirt.render(given.meshes, given.view)

    def picture(name: str) -> Any:
        return np.asarray(Image.open(out / f"{name}_00001.png"))

    for style in ("handrefiner", "pam-segmentation", "keypoints"):
        np.testing.assert_array_equal(picture(style), maps.picture(style)[1])
    np.testing.assert_allclose(picture("depth-mm") / 1000, maps.depth[1], atol=6e-4)
    np.testing.assert_array_equal(picture("segmentation-ids").astype(int) - 1, maps.segmentation[1])


def test_floats_become_exr(scene: Path, tmp_path: Path) -> None:
    exr = pytest.importorskip("OpenEXR", reason="OpenEXR is not installed")
    assert main(["render", str(scene), "-o", str(tmp_path), "-w", "depth-exr", "-w", "normals-exr"]) == 0
    given = read_scene(scene)
    maps = hoirt.render(given.meshes, given.view, modes=("depth", "normals"))
    with exr.File(str(tmp_path / "depth-exr_00001.exr"), separate_channels=True) as file:
        np.testing.assert_array_equal(file.channels()["Z"].pixels, maps.depth[1])
    with exr.File(str(tmp_path / "normals-exr_00000.exr"), separate_channels=True) as file:
        np.testing.assert_array_equal(file.channels()["G"].pixels, maps.normals[0, ..., 1])


def test_a_scene_becomes_a_video(scene: Path, tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    out = tmp_path / "new" / "clip.mp4"
    assert main(["render", str(scene), "-o", str(out), "--size", "96x128"]) == 0
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        assert (stream.height, stream.width, float(stream.average_rate)) == (96, 128, 30.0)
        assert sum(1 for _ in container.decode(stream)) == 2
    assert names(out.parent) == ["clip.mp4"]


def test_meshes_are_seen_whole(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["render", str(scene.parent / "box.stl"), "-o", str(out), "--size", "40x60"]) == 0
    depth = np.asarray(Image.open(out / "depth-mm_00000.png"))
    assert depth.shape == (40, 60) and 100 < (depth > 0).sum() < 1200
    assert not depth[0].any() and not depth[-1].any()


def test_a_size_keeps_the_view(scene: Path, tmp_path: Path) -> None:
    """Twice the size sees the same: every second sample lies near one of the small picture."""
    for size in ("48x64", "96x128"):
        assert main(["render", str(scene), "-o", str(tmp_path / size), "--size", size]) == 0
    small, large = (
        np.asarray(Image.open(tmp_path / size / "depth-mm_00000.png")) > 0 for size in ("48x64", "96x128")
    )
    assert (large[::2, ::2] != small).mean() < 0.03


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.json", "b.obj", "-o", "out"], "a scene file stands alone"),
        (["a.json", "-o", "clip.mp4", "-w", "depth-mm"], "a video shows one of handrefiner"),
        (["a.json", "-o", "clip.mp4", "-w", "normals", "-w", "keypoints"], "a video shows one of"),
        (["a.json", "-o", "taken.txt"], "taken.txt is a file; OUT must be a folder or end in .mp4"),
        (["a.json", "-o", "out", "-w", "oil"], "invalid choice: 'oil'"),
        (["a.json", "-o", "out", "--size", "48"], "is not a size such as 480x640"),
        (["a.json", "-o", "out", "--size", "0x9"], "each side must be 1..8192"),
        (["a.json"], "-o/--out"),
    ],
)
def test_wrong_usage_exits_with_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.txt").write_text("")
    assert main(["render", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert names(tmp_path) == ["taken.txt"]


@pytest.mark.parametrize(
    ("change", "flags", "message"),
    [
        ({"version": 3}, [], "version: found the number 3"),
        ({"meshes": [{"path": "none.stl"}]}, [], "of a file that exists"),
        ({}, ["--near", "-1"], "near must be a positive"),
        ({}, ["--threads", "-1"], "threads must be"),
        ({}, ["-w", "pam-segmentation"], ""),
        ({"meshes": [{"path": "box.stl"}]}, ["-w", "pam-segmentation"], "what instance 0 is was not said"),
        ({"meshes": [{"path": "box.stl"}]}, ["-w", "openpose"], "no mesh has joints"),
        ({"size": [47, 64]}, ["-o", "clip.mp4"], "48x64 is right"),
        ({}, ["-o", "clip.mp4", "--fps", "0"], "fps must be"),
    ],
)
def test_errors_exit_with_1_and_one_line(
    change: dict[str, Any],
    flags: list[str],
    message: str,
    scene: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    scene_file(scene.parent, **change)
    code = main(["render", str(scene), "-o", "out", *flags])
    printed = capsys.readouterr().err
    assert code == (1 if message else 0) and message in printed
    assert printed.count("\n") == (1 if message else 0)
    assert not list(tmp_path.glob("*.mp4")) and not list(tmp_path.rglob(".*"))


def test_ctrl_c_leaves_whole_files(scene: Path, tmp_path: Path) -> None:
    poses = np.tile(np.eye(4), (3000, 1, 1))
    poses[:, 2, 3] = 0.6
    np.save(scene.parent / "poses.npy", poses)
    tree = json.loads(scene.read_text())
    tree["size"] = [240, 320]
    scene.write_text(json.dumps(tree))
    out = tmp_path / "out"
    run = subprocess.Popen(
        [sys.executable, "-m", "hoirt.cli.main", "render", str(scene), "-o", str(out)],
        stderr=subprocess.PIPE,
        text=True,
    )
    while run.poll() is None and len(list(out.glob("*.png"))) < 3:
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGINT)
    _, errors = run.communicate(timeout=120)
    assert run.returncode == 130 and "interrupted" in errors
    written = sorted(out.iterdir())
    assert 3 <= len(written) < 3000 and all(path.name.startswith("depth-mm_") for path in written)
    for path in (written[0], written[-1]):
        assert np.asarray(Image.open(path)).shape == (240, 320)
