"""refine() end to end on the random pack: exact outside the mask, reproducible, firm against wrong input."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hoirt
import numpy as np
import pytest
from blobs import outside_is_identical, scene
from hoirt.hands.hand import Hand
from hoirt.imaging import save
from hoirt.pipeline.options import hand_seed
from hoirt.pipeline.schedule import step_table
from PIL import Image


@pytest.mark.parametrize("region", ["crop", "frame"])
@pytest.mark.parametrize("count", [1, 2])
def test_refines_inside_the_mask_only(refiner: hoirt.Refiner, region: str, count: int) -> None:
    picture = scene(hands=count)
    kept = picture.copy()
    result = refiner(picture, prompt="an open palm", region=region, steps=2)
    assert result.status == "refined" and len(result.hands) == count
    assert np.array_equal(picture, kept)  # the input is not written to
    assert isinstance(result.image, np.ndarray)
    assert result.image.shape == picture.shape and result.image.dtype == np.uint8
    assert result.mask is not None and result.depth is not None
    assert result.mask.shape == result.depth.shape == picture.shape[:2]
    assert set(np.unique(result.mask)) == {0, 1}
    assert outside_is_identical(picture, result)
    assert (result.image != picture).any(axis=2)[result.mask == 1].mean() > 0.9
    assert result.mask[result.depth > 0].all()  # the silhouette is regenerated
    timings = result.timings.as_dict()
    stages = sum(seconds for stage, seconds in timings.items() if stage != "total")
    assert all(timings[stage] > 0 for stage in ("detect", "mesh", "encode", "denoise", "decode", "paste"))
    assert stages <= timings["total"]


def test_hands_of_the_result(refiner: hoirt.Refiner) -> None:
    hands = refiner.detect(scene(hands=2))
    assert {hand.side for hand in hands} == {"left", "right"}
    for hand in hands:
        assert hand.keypoints.shape == (21, 2) and hand.joints.shape == (21, 3)
        assert hand.faces.max() < len(hand.vertices)
        centre = (hand.box[0] + hand.box[2]) / 2
        assert abs(centre - (0.28 if hand.side == "right" else 0.75) * 160) < 4
    assert refiner.detect(scene(hands=2), threshold=1.0) == []


@pytest.mark.parametrize("source", ["array", "rgba", "pil", "path", "palette", "grey"])
def test_no_hand_gives_the_same_picture(refiner: hoirt.Refiner, source: str, tmp_path: Path) -> None:
    picture = scene(hands=0)
    pil = Image.fromarray(picture)
    image: Any = {
        "array": picture,
        "rgba": np.dstack([picture, picture[..., 0]]),
        "pil": pil,
        "path": tmp_path / "a.png",
        "palette": pil.quantize(16),
        "grey": pil.convert("L"),
    }[source]
    pil.save(tmp_path / "a.png")
    result = refiner(image)
    assert result.status == "no_hand" and result.hands == ()
    assert result.mask is not None and not result.mask.any()
    if isinstance(image, np.ndarray):
        assert isinstance(result.image, np.ndarray) and np.array_equal(result.image, image)
        assert result.image is not image
    else:
        expected = pil if source == "path" else image
        assert isinstance(result.image, Image.Image)
        assert (result.image.mode, result.image.tobytes()) == (expected.mode, expected.tobytes())


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (300, 1), (20, 30), (400, 90), (8192, 24)])
def test_every_size(refiner: hoirt.Refiner, height: int, width: int) -> None:
    picture = scene(height, width)
    for region in ("crop", "frame"):
        result = refiner(picture, hands=[(0, 0, width, height)], region=region, steps=1)
        assert np.asarray(result.image).shape == picture.shape
        assert outside_is_identical(picture, result)


def test_eight_thousand_pixels(refiner: hoirt.Refiner) -> None:
    """8192 x 8192 with a hand a quarter as large; grey, so that the test stays small."""
    picture = np.full((8192, 8192), 90, np.uint8)
    result = refiner(picture, hands=[(3000, 3000, 5000, 5000)], steps=1, strength=0.0)
    assert isinstance(result.image, np.ndarray) and result.image.shape == picture.shape
    assert result.status == "refined" and result.mask is not None
    untouched = result.mask == 0
    assert np.array_equal(result.image[untouched], picture[untouched])


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "CMYK", "I;16", "1"])
def test_kinds_of_pictures(refiner: hoirt.Refiner, mode: str) -> None:
    rgb = Image.fromarray(scene())
    if mode == "I;16":
        image = Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)
    else:
        image = rgb.convert(mode)
    result = refiner(image, hands=[(20, 30, 80, 90)], steps=1)
    assert isinstance(result.image, Image.Image)
    assert result.status == "refined" and result.image.size == image.size
    assert result.image.mode == {"RGBA": "RGBA", "P": "RGB", "CMYK": "RGB"}.get(mode, "L")
    if mode in ("RGBA", "L"):
        assert outside_is_identical(np.asarray(image), result)


def test_seeds(refiner: hoirt.Refiner) -> None:
    picture = scene(hands=2)
    a, b, other = (refiner(picture, seed=seed, steps=2) for seed in (7, 7, 8))
    assert np.array_equal(a.image, b.image)  # type: ignore[arg-type]
    assert not np.array_equal(a.image, other.image)  # type: ignore[arg-type]
    seeds = {hand_seed(seed, hand) for seed in (0, 1, 2**32 - 1) for hand in range(8)}
    assert len(seeds) == 24 and hand_seed(2**64 - 1, 3) < 2**64


def test_a_hand_does_not_depend_on_its_neighbours(refiner: hoirt.Refiner) -> None:
    """Alone or in a batch of two; a runtime may round differently, a wrong seed would differ by far."""
    picture = scene(hands=2)
    both = refiner(picture, steps=2)
    alone = refiner(picture, steps=2, hands=[both.hands[0]])
    shared = (alone.mask == 1)[..., None]
    difference = np.where(shared, np.asarray(both.image, float) - np.asarray(alone.image, float), 0)
    assert np.abs(difference).max() <= 2
    assert (alone.mask == 1).sum() < (both.mask == 1).sum()


def test_own_noise_replaces_the_seed(refiner: hoirt.Refiner) -> None:
    picture = scene()
    table = step_table(refiner._models.scheduler, _settings(refiner))
    shape = (table.noise_streams, 1, 4, 16, 16)
    noise = np.random.default_rng(0).normal(size=shape)
    a, b = (refiner(picture, noise=noise, seed=seed, steps=2) for seed in (1, 2))
    assert np.array_equal(a.image, b.image)  # type: ignore[arg-type]
    with pytest.raises(hoirt.InputError, match=r"noise has shape .* needs"):
        refiner(picture, noise=noise[:, :, :, :-1], steps=2)


def _settings(refiner: hoirt.Refiner) -> Any:
    from hoirt.pipeline.options import check_settings

    return check_settings(refiner._models.settings, steps=2)


def test_prompts_strength_guidance_and_schedulers_matter(refiner: hoirt.Refiner) -> None:
    picture = scene()
    plain = np.asarray(refiner(picture, steps=2).image, float)
    for change in (
        {"prompt": "a fist"},
        {"negative_prompt": "two hands"},
        {"strength": 1.2},
        {"guidance": 5.0},
        {"scheduler": "EulerDiscrete"},
        {"scheduler": {"_class_name": "DPMSolverMultistepScheduler", "solver_order": 2}},
        {"steps": 3},
    ):
        assert np.abs(np.asarray(refiner(picture, **{"steps": 2, **change}).image) - plain).max() > 0, change
    with pytest.raises(hoirt.InputError, match="could be any of"):
        refiner(picture, scheduler="D")
    with pytest.raises(hoirt.InputError, match="is unknown; there are"):
        refiner(picture, scheduler="Nothing")


def test_told_hands(refiner: hoirt.Refiner) -> None:
    picture = scene(hands=2)
    found = {hand.side: hand for hand in refiner.detect(picture)}
    boxed = refiner(picture, hands=[found["left"].box, np.array(found["right"].box)], steps=1)
    assert [hand.side for hand in boxed.hands] == ["left", "right"]  # the side is seen in the picture
    assert np.allclose(boxed.hands[0].vertices, found["left"].vertices)
    again = refiner(picture, hands=[found["right"]], steps=1)
    assert again.hands == (found["right"],)
    points = np.random.default_rng(0).uniform((30, 40), (60, 80), (21, 2))
    (told,) = refiner(picture, hands=[points], steps=1).hands
    box = np.array(told.box)
    assert (points.min(axis=0) > box[:2]).all() and (points.max(axis=0) < box[2:]).all()
    assert refiner(picture, hands=[]).status == "no_hand"
    with pytest.raises(hoirt.InputError, match=r"hands\[0\] .* outside the picture"):
        refiner(picture[:40, :20], hands=[found["left"]])  # a hand of another picture


def test_told_mask(refiner: hoirt.Refiner) -> None:
    picture = scene(hands=2)
    mask = np.zeros(picture.shape[:2], np.uint8)
    mask[50:70, 30:60] = 1  # on the first hand only
    result = refiner(picture, mask=mask, steps=1)
    assert np.array_equal(result.mask, mask) and len(result.hands) == 2
    assert outside_is_identical(picture, result)
    elsewhere = refiner(picture, mask=np.zeros_like(mask))
    assert elsewhere.status == "unchanged" and np.array_equal(elsewhere.image, picture)  # type: ignore[arg-type]
    frame = refiner(picture, mask=mask, region="frame", steps=1)
    assert np.array_equal(frame.mask, mask) and outside_is_identical(picture, frame)


def test_told_depth(refiner: hoirt.Refiner) -> None:
    picture = scene(hands=0)
    depth = np.zeros(picture.shape[:2], np.uint8)
    depth[40:80, 50:90] = np.linspace(51, 255, 40).astype(np.uint8)
    for region in ("crop", "frame"):
        result = refiner(picture, depth=depth, region=region, steps=1)
        assert result.status == "refined" and result.hands == ()
        assert np.array_equal(result.depth, depth) and result.mask[depth > 0].all()  # type: ignore[index]
        assert outside_is_identical(picture, result)
    mask = np.zeros_like(depth)
    mask[45:60, 55:70] = 255
    assert np.array_equal(refiner(picture, depth=depth, mask=mask, steps=1).mask, mask // 255)
    assert refiner(picture, depth=np.zeros_like(depth)).status == "no_hand"


def test_lists(refiner: hoirt.Refiner, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(save(scene(), tmp_path / "whole.png").read_bytes()[:500])
    images = [scene(), broken, tmp_path / "whole.png", np.full((4, 4), np.nan)]
    results = refiner(images, prompt=["a fist", "", "a fist", ""], seed=5, steps=2)
    assert [result.status for result in results] == ["refined", "error", "refined", "error"]
    assert isinstance(results[1].error, hoirt.InputError) and "broken.png" in str(results[1].error)
    assert results[1].image is None and "broken.png" in results[1].summary()
    assert isinstance(results[2].image, Image.Image)
    assert np.array_equal(results[0].image, np.asarray(results[2].image))  # type: ignore[arg-type]
    single = refiner(images[0], prompt="a fist", seed=5, steps=2)
    assert np.array_equal(single.image, results[0].image)  # type: ignore[arg-type]
    told = refiner([scene(), scene()], hands=[[], [(20, 30, 80, 90)]], seed=[1, -1], steps=1)
    assert [result.status for result in told] == ["no_hand", "error"]
    assert refiner([]) == []
    with pytest.raises(hoirt.InputError, match="prompt is a list of 1 but there are 2 images"):
        refiner([scene(), scene()], prompt=["a"])


def test_progress_and_cancel(refiner: hoirt.Refiner) -> None:
    picture = scene(hands=2)
    told: list[hoirt.StepInfo] = []
    shapes = []

    def watch(info: hoirt.StepInfo) -> None:
        told.append(info)
        shapes.append(info.x0.shape)

    refiner(picture, steps=3, on_step=watch)
    assert [(info.step, info.steps, info.hands, info.image) for info in told] == [
        (k, 3, 2, 0) for k in range(3)
    ]
    assert shapes == [(2, 4, 16, 16)] * 3
    assert told[0].timestep > told[2].timestep and told[2].seconds > told[0].seconds > 0
    with pytest.raises(hoirt.Cancelled):
        refiner(picture, steps=3, on_step=lambda info: info.step < 1)
    with pytest.raises(hoirt.Cancelled):
        refiner([picture], steps=3, on_step=lambda info: False)
    token = hoirt.CancelToken()
    with pytest.raises(hoirt.Cancelled):
        refiner(picture, steps=50, cancel=token, on_step=lambda info: token.cancel())
    with pytest.raises(hoirt.Cancelled):
        refiner(picture, cancel=token)
    with pytest.raises(ZeroDivisionError):
        refiner(picture, steps=2, on_step=lambda info: 1 // 0)  # type: ignore[arg-type,return-value]
    assert refiner(picture, steps=1).status == "refined"  # nothing is left behind


def test_eight_threads_and_steady_memory(refiner: hoirt.Refiner) -> None:
    """400 calls from 8 threads: every result equals the serial one, and memory does not grow."""
    pictures = [scene(), scene(90, 90), scene(hands=0)]
    expected = [np.asarray(refiner(picture, steps=1).image) for picture in pictures]

    def work(thread: int, calls: int) -> bool:
        same = True
        for call in range(calls):
            which = (thread + call) % len(pictures)
            same &= np.array_equal(np.asarray(refiner(pictures[which], steps=1).image), expected[which])
        return same

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8), [10] * 8))
        before = resident_bytes()
        assert all(pool.map(work, range(8), [40] * 8))
    assert resident_bytes() - before < 40 * 2**20


def resident_bytes() -> int:
    import gc

    gc.collect()
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def test_shared_refiner_is_opened_once(
    random_pack: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hoirt.pipeline import shared

    opened = []

    def open_random() -> hoirt.Refiner:
        opened.append(threading.get_ident())
        return hoirt.Refiner(random_pack)

    monkeypatch.setattr(shared, "Refiner", open_random)
    monkeypatch.setattr(shared, "_refiner", None)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: hoirt.refine(scene(), steps=1), range(4)))
    assert len(opened) == 1 and all(result.status == "refined" for result in results)
    assert isinstance(hoirt.detect(scene())[0], Hand)


def test_report_sheet(refiner: hoirt.Refiner) -> None:
    images = [scene(hands=2), scene(200, 60), np.full((5, 5), np.nan)]
    results = refiner(images, steps=1)
    sheet = hoirt.report_sheet(images, results, ["two", "one", "none"])
    assert sheet.mode == "RGB"
    pixels = np.asarray(sheet)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 1000
    with pytest.raises(hoirt.InputError, match="as many"):
        hoirt.report_sheet(images[:1], results)
    with pytest.raises(hoirt.InputError, match="no picture"):
        hoirt.report_sheet([], [])


def test_doctor() -> None:
    report = hoirt.doctor()
    assert report["hoirt"] == hoirt.__version__ and report["core"] == hoirt.__version__
    assert "openvino" in report["backends"] and report["cuda"].startswith(("unavailable: ", "kernels built"))
    assert report["healthy"] == all(text.startswith("ok") for text in report["packs"].values() or ["no pack"])


def test_equal_prompts_need_no_guidance(refiner: hoirt.Refiner) -> None:
    """What the prompts share cancels out of u + w (c - u), so any scale is scale 1."""
    picture = scene()
    options = {"prompt": "a fist", "negative_prompt": "a fist", "steps": 2}
    wanted = refiner(picture, guidance=1.0, **options).image
    np.testing.assert_array_equal(refiner(picture, guidance=7.0, **options).image, wanted)
    assert not np.array_equal(refiner(picture, guidance=7.0, prompt="a fist", steps=2).image, wanted)
