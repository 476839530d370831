"""Pictures in and out: every accepted kind arrives as the right RGB pixels and goes back to its own kind."""

from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import hoirt
import numpy as np
import pytest
from hoirt.imaging import load, load_depth, load_mask, resize, save
from hoirt.imaging.picture import MAX_SIDE
from PIL import Image

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
GREY = RGB[..., 0]


def test_import_is_lazy() -> None:
    heavy = {"torch", "PIL", "openvino", "tokenizers", "tqdm", "numpy", "hoirt._core"}
    code = f"import sys, hoirt; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert set(hoirt.__all__) <= set(dir(hoirt))
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        hoirt.nothing_of_this_name  # noqa: B018


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (RGB, RGB),
        (np.dstack([RGB, GREY]), RGB),
        (GREY, np.dstack([GREY] * 3)),
        (GREY[..., None], np.dstack([GREY] * 3)),
        (GREY.astype(np.uint16) * 257, np.dstack([GREY] * 3)),
        (RGB.astype(np.float64) / 255, RGB),
        (RGB.astype(np.float16) / 255, RGB),
        (GREY > 100, np.dstack([np.where(GREY > 100, 255, 0)] * 3)),
        (RGB[::-1, ::2], RGB[::-1, ::2]),
        (RGB[:1, :1], RGB[:1, :1]),
    ],
    ids=["rgb", "rgba", "grey", "grey1", "uint16", "float64", "float16", "bool", "strided", "1x1"],
)
def test_arrays(source: np.ndarray, expected: np.ndarray) -> None:
    picture = load(source)
    assert picture.pixels.dtype == np.uint8
    assert np.array_equal(picture.pixels, expected)
    back = picture.rebuild(picture.pixels)
    assert isinstance(back, np.ndarray)
    assert (back.dtype, back.shape) == (np.uint8, source.shape)
    if source.dtype == np.uint8:
        assert np.array_equal(back, source)
    unchanged = picture.unchanged()
    assert isinstance(unchanged, np.ndarray)
    assert np.array_equal(unchanged, source) and unchanged.dtype == source.dtype


def test_an_array_while_another_thread_imports_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", ModuleType("PIL.Image"))  # as far as that import got
    np.testing.assert_array_equal(load(np.full((2, 3, 3), 7, np.uint8)).pixels, 7)


def test_dlpack_tensor() -> None:
    torch = pytest.importorskip("torch")
    assert np.array_equal(load(torch.from_numpy(RGB.copy())).pixels, RGB)
    assert np.array_equal(load(hoirt._core.Tensor(RGB)).pixels, RGB)
    with pytest.raises(hoirt.InputError, match="channels last"):
        load(torch.zeros(3, 8, 9))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((0, 4, 3), np.uint8), "4 x 0 pixels"),
        (np.zeros((MAX_SIDE + 1, 1), np.uint8), str(MAX_SIDE)),
        (np.zeros((4, 4, 2), np.uint8), "shape"),
        (np.zeros((3, 4, 5), np.uint8), "channels last"),
        (np.zeros((1, 4, 4, 3), np.uint8), "shape"),
        (np.zeros(4, np.uint8), "shape"),
        (np.zeros((4, 4), np.int64), "int64"),
        (np.zeros((4, 4), complex), "complex"),
        (np.full((4, 4), "x"), "dtype"),
        (np.full((4, 4, 3), np.nan), "NaN"),
        (np.full((4, 4, 3), np.inf), "infinity"),
        (np.full((4, 4, 3), 2.0), "0..1"),
        (np.full((4, 4, 3), -0.5), "0..1"),
    ],
)
def test_wrong_arrays(array: np.ndarray, words: str) -> None:
    with pytest.raises(hoirt.InputError, match=words):
        load(array)


@pytest.mark.parametrize("source", [None, 3, [[1, 2]], b"x", object(), {"a": 1}])
def test_wrong_kinds(source: Any) -> None:
    with pytest.raises(hoirt.InputError, match="use a path, a PIL image, or a NumPy"):
        load(source)


@pytest.mark.parametrize(
    ("mode", "back"),
    [
        ("RGB", "RGB"),
        ("RGBA", "RGBA"),
        ("L", "L"),
        ("LA", "LA"),
        ("1", "L"),
        ("P", "RGB"),
        ("CMYK", "RGB"),
        ("YCbCr", "RGB"),
        ("HSV", "RGB"),
        ("RGBa", "RGBA"),
    ],
)
def test_pil_modes(mode: str, back: str) -> None:
    image = Image.fromarray(RGB)
    image = image.convert("RGBA").convert(mode) if mode == "RGBa" else image.convert(mode)
    picture = load(image)
    wanted = image.convert("RGBA").convert("RGB") if mode == "RGBa" else image.convert("RGB")
    assert np.array_equal(picture.pixels, np.asarray(wanted))
    result = picture.rebuild(picture.pixels)
    assert isinstance(result, Image.Image)
    assert (result.mode, result.size) == (back, image.size)
    if mode == back:
        assert result.tobytes() == image.tobytes()
    if mode != "RGBa":
        assert picture.unchanged().tobytes() == image.tobytes()


def test_sixteen_bit_and_float_pil() -> None:
    wide = GREY.astype(np.uint16) * 257
    for image in (Image.fromarray(wide), Image.fromarray(wide.astype(np.int32))):
        picture = load(image)
        assert np.array_equal(picture.pixels[..., 0], GREY)
        assert picture.rebuild(picture.pixels).mode == "L"  # type: ignore[union-attr]
    assert np.array_equal(load(Image.fromarray(GREY.astype(np.float32) / 255)).pixels[..., 1], GREY)
    with pytest.raises(hoirt.InputError, match="65535"):
        load(Image.fromarray(np.full((3, 3), 70000, np.int32)))


def test_palette_with_transparency() -> None:
    image = Image.new("P", (4, 3), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.info["transparency"] = 1
    picture = load(image)
    assert picture.pixels[0, 0].tolist() == [10, 20, 30]
    assert picture.alpha is not None and not picture.alpha.any()
    assert picture.rebuild(picture.pixels).mode == "RGBA"  # type: ignore[union-attr]


def test_exif_rotation(tmp_path: Path) -> None:
    image = Image.fromarray(RGB)
    exif = image.getexif()
    exif[0x0112] = 6  # rotate by 270 degrees to view
    image.save(tmp_path / "rotated.png", exif=exif)
    picture = load(tmp_path / "rotated.png")
    assert np.array_equal(picture.pixels, np.rot90(RGB, -1))
    again = load(save(picture.rebuild(picture.pixels), tmp_path / "again.png"))
    assert np.array_equal(again.pixels, picture.pixels)  # not rotated twice


def test_unreadable_files(tmp_path: Path) -> None:
    good = save(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8), tmp_path / "good.png")
    data = good.read_bytes()
    damaged = {"empty": b"", "text": b"hello", "half": data[: len(data) // 2], "header": data[:40]}
    for name, content in damaged.items():
        path = tmp_path / f"{name}.png"
        path.write_bytes(content)
        with pytest.raises(hoirt.InputError, match=name):
            load(path)
    jpeg = save(load(good).pixels, tmp_path / "full.jpg").read_bytes()
    (tmp_path / "short.jpg").write_bytes(jpeg[:-200])
    with pytest.raises(hoirt.InputError, match="truncated"):
        load(tmp_path / "short.jpg")
    with pytest.raises(hoirt.InputError, match="does not exist"):
        load(tmp_path / "missing.png")
    with pytest.raises(hoirt.InputError, match="folder"):
        load(tmp_path)


def test_too_large_file_is_refused_by_its_header(tmp_path: Path) -> None:
    Image.new("1", (MAX_SIDE + 1, 1)).save(tmp_path / "wide.png")
    with pytest.raises(hoirt.InputError, match="8193 x 1"):
        load(tmp_path / "wide.png")
    small = save(RGB, tmp_path / "small.png").read_bytes()
    header = b"IHDR" + (20_000).to_bytes(4) + (20_000).to_bytes(4) + small[24:29]
    bomb = small[:12] + header + zlib.crc32(header).to_bytes(4) + small[33:]
    (tmp_path / "bomb.png").write_bytes(bomb)
    with pytest.raises(hoirt.InputError, match="too large"):
        load(tmp_path / "bomb.png")


def test_save_is_atomic_and_follows_the_suffix(tmp_path: Path) -> None:
    rgba = np.dstack([RGB, np.zeros_like(GREY)])
    assert Image.open(save(rgba, tmp_path / "a.png")).mode == "RGBA"
    with Image.open(save(rgba, tmp_path / "a.jpg")) as flat:
        assert flat.format == "JPEG" and np.asarray(flat).min() > 250  # transparent lies on white
    assert Image.open(save(GREY[..., None], tmp_path / "g.webp")).format == "WEBP"
    for name, words in (("a.xyz", "suffix"), ("a", "suffix"), ("none/a.png", "folder")):
        with pytest.raises(hoirt.InputError, match=words):
            save(RGB, tmp_path / name)
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(hoirt.InputError, match=r"a\.png cannot be written"):
        save(Image.new("CMYK", (4, 4)), tmp_path / "a.png")  # PNG has no CMYK
    assert (tmp_path / "a.png").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "a.png", "g.webp"]


def test_masks_and_depth() -> None:
    expected = GREY >= 128
    for source in (expected, expected.astype(np.uint8), expected.astype(np.int64), GREY, GREY / 255.0):
        assert np.array_equal(load_mask(source, GREY.shape), expected)
    assert np.array_equal(load_mask(Image.fromarray(expected), GREY.shape), expected)
    assert np.array_equal(load_depth(GREY, GREY.shape), GREY)
    assert np.array_equal(load_depth(np.dstack([GREY] * 3), GREY.shape), GREY)
    with pytest.raises(hoirt.InputError, match="mask is 9 x 6 pixels but the picture is 9 x 7"):
        load_mask(GREY, (7, 9))
    with pytest.raises(hoirt.InputError, match="depth is coloured"):
        load_depth(RGB, GREY.shape)


@pytest.mark.parametrize("shape", [(40, 30), (40, 30, 3)])
@pytest.mark.parametrize("size", [(97, 61), (13, 7)])
def test_resize_in_bands_equals_resize_at_once(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    array = np.random.default_rng(2).random(shape, np.float32)
    whole = resize(array, size)
    scale = shape[0] / size[0]
    bands = [
        resize(array, (1, size[1]), box=(0, y * scale, shape[1], (y + 1) * scale)) for y in range(size[0])
    ]
    assert np.allclose(np.concatenate(bands), whole, atol=1e-4)
