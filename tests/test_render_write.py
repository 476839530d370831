"""PNG, EXR and MP4 against Pillow, OpenEXR and PyAV; bad values, nothing half-written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hoirt
import numpy as np
import pytest
from hoirt.render.exr import exr_bytes
from hoirt.render.write import millimetres, numbered, write_exr, write_png, write_png16, write_video
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_st
from PIL import Image


@settings(max_examples=30, deadline=None)
@given(
    st.sets(st.sampled_from(["Z", "R", "G", "B", "left.Y"]), min_size=1).flatmap(
        lambda names: st.tuples(st.just(sorted(names)), st.integers(1, 7), st.integers(1, 9))
    ),
    st.integers(0, 2**32 - 1),
)
def test_exr_files_are_read_by_openexr(tmp_path_factory: Any, shape: Any, seed: int) -> None:
    exr = pytest.importorskip("OpenEXR", reason="OpenEXR is not installed")
    names, height, width = shape
    rng = np.random.default_rng(seed)
    channels = {name: rng.standard_normal((height, width)).astype(np.float32) for name in names}
    path = tmp_path_factory.mktemp("exr") / "a.exr"
    path.write_bytes(exr_bytes(channels))
    with exr.File(str(path), separate_channels=True) as file:
        found = file.channels()
        assert set(found) == set(names)
        for name in names:
            np.testing.assert_array_equal(found[name].pixels, channels[name])


def test_maps_become_exr_channels(tmp_path: Path) -> None:
    exr = pytest.importorskip("OpenEXR", reason="OpenEXR is not installed")
    normals = np.random.default_rng(0).standard_normal((5, 6, 3)).astype(np.float32)
    with exr.File(str(write_exr(tmp_path / "n.exr", normals)), separate_channels=True) as file:
        np.testing.assert_array_equal(np.dstack([file.channels()[c].pixels for c in "RGB"]), normals)
    with exr.File(str(write_exr(tmp_path / "z.exr", normals[..., 0])), separate_channels=True) as file:
        np.testing.assert_array_equal(file.channels()["Z"].pixels, normals[..., 0])


@given(numpy_st.arrays(np.float32, (3, 4), elements=st.floats(0, 65.5, width=32)))
def test_millimetres_are_rounded_and_never_lose_a_pixel(depth: Any) -> None:
    written = millimetres(depth)
    assert ((written > 0) == (depth > 0)).all()
    np.testing.assert_allclose(written, depth.astype(np.float64) * 1000, atol=1.0)


def test_16_bit_pictures_keep_their_values(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (9, 11)).astype(np.uint16)
    read = np.asarray(Image.open(write_png16(tmp_path / "a.png", values)))
    np.testing.assert_array_equal(read, values)
    ids = np.array([[-1, 0], [65534, 7]], np.int32)
    assert numbered(ids).tolist() == [[0, 1], [65535, 8]]


@pytest.mark.parametrize("colour", [True, False])
def test_a_video_shows_its_frames(colour: bool, tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    y, x = np.mgrid[:48, :64]
    frames = np.stack([(x * 2 + y + 9 * n) % 256 for n in range(5)]).astype(np.uint8)
    if colour:
        frames = np.stack([frames, frames // 2, 255 - frames], axis=-1)
    path = write_video(tmp_path / "a.mp4", frames, fps=12.5, quality=4)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == 12.5 and stream.codec_context.name == "h264"
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
    expected = frames if colour else np.repeat(frames[..., None], 3, axis=-1)
    assert decoded.shape == expected.shape
    assert np.abs(decoded.astype(int) - expected).mean() < 9  # the colours' resolution is halved
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]


GREY = np.zeros((2, 4, 6), np.uint8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: write_video(f / "a.mp4", GREY.astype(np.float32)), "needs uint8"),
        (lambda f: write_video(f / "a.mp4", GREY[:, :3]), "even sides, not 2 of 3x6; 4x6 is right"),
        (lambda f: write_video(f / "a.mp4", GREY[:0]), "even sides, not 0"),
        (lambda f: write_video(f / "a.mp4", GREY, fps=float("nan")), "fps must be"),
        (lambda f: write_video(f / "a.mp4", GREY, quality=52), "quality must be"),
        (lambda f: write_video(f / "a.avi", GREY), "must end in .mp4"),
        (lambda f: write_video(f / "no" / "a.mp4", GREY), "the folder .* does not exist"),
        (lambda f: write_png(f / "a.png", GREY[0].astype(np.uint16)), "needs uint8"),
        (lambda f: write_png(f / "a.jpg", GREY[0]), "must end in .png"),
        (lambda f: write_png16(f / "a.png", GREY[0]), "needs uint16"),
        (lambda f: write_exr(f / "a.exr", GREY), r"needs \(H, W\) or \(H, W, 3\)"),
        (lambda f: write_exr(f / "a.exr", np.zeros((0, 3), np.float32)), "all of one shape"),
        (lambda f: exr_bytes({}), "one or more channels"),
        (lambda f: exr_bytes({"é": GREY[0]}), "channel names"),
        (lambda f: millimetres(np.float32([[66.0]])), "0..65.535 m"),
        (lambda f: millimetres(np.float32([[np.nan]])), "0..65.535 m"),
        (lambda f: millimetres(np.float32([[-1.0]])), "0..65.535 m"),
        (lambda f: numbered(np.int32([[65535]])), "ids 0..65534"),
    ],
)
def test_what_cannot_be_written_is_refused(call: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(hoirt.InputError, match=message):
        call(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_video_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed")

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "a.mp4", GREY, on_progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(hoirt.BackendError, match=r'pip install "hoirt\[video\]"'):
        write_video(tmp_path / "a.mp4", GREY)
