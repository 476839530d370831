"""The arithmetic of the benchmarks, on data whose answers are known; nothing is timed here."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hoirt import Refiner, Result
from hoirt.packs import open_pack
from numpy.typing import NDArray
from PIL import Image

from bench import quality, report
from bench.held_out import Example, example, overlap, repair
from bench.judges import network
from bench.judges.network import Judge, frechet_distance
from bench.kernels import GUIDANCE, SHAPE, KernelCase
from bench.measures import flagged, joint_errors, judged, largest_rise, mean
from bench.record import Figure, document, figures_of, table, write_json
from bench.workload import open_workload, refine, run_pipeline
from export.tiny.dataset import CROP


@pytest.fixture(scope="module")
def judge() -> Judge:
    torch.manual_seed(0)
    return Judge().eval()


@pytest.fixture(scope="module")
def hands() -> dict[str, Example]:
    """A right and a left hand of the held-out range."""
    found: dict[str, Example] = {}
    for seed in range(2_000_000, 2_000_020):
        one = example(seed)
        found.setdefault(one.picture.hands[0].side, one)
        if len(found) == 2:
            break
    return found


def normal_sample(rng: np.random.Generator, mean: NDArray[Any], root: NDArray[Any]) -> NDArray[np.float64]:
    """Points (400, D) whose mean and covariance are exactly `mean` and root @ root.T."""
    points = rng.standard_normal((400, len(mean)))
    points -= points.mean(axis=0)
    points @= np.linalg.inv(np.linalg.cholesky(np.cov(points, rowvar=False))).T
    return np.asarray(points @ root.T + mean)


def test_frechet_distance_of_normals_with_common_axes() -> None:
    # Covariances of common axes: |m - n|^2 + sum (difference of the standard deviations)^2.
    rng = np.random.default_rng(3)
    axes = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    means, deviations = rng.standard_normal((2, 6)), rng.uniform(0.3, 2.0, (2, 6))
    samples = [normal_sample(rng, m, axes * d) for m, d in zip(means, deviations, strict=True)]
    expected = ((means[0] - means[1]) ** 2).sum() + ((deviations[0] - deviations[1]) ** 2).sum()
    assert frechet_distance(*samples) == pytest.approx(expected, rel=1e-4)
    assert frechet_distance(samples[0], samples[0]) == pytest.approx(0.0, abs=1e-4)


def test_shares_and_joint_errors() -> None:
    assert flagged(np.array([-1.0, 0.0, 0.1, 5.0])) == 0.5
    shifted = np.zeros((3, 21, 2))
    shifted[1] += (3.0, 4.0)
    shifted[2, 0] = (0.0, 21.0)
    np.testing.assert_allclose(joint_errors(shifted, np.zeros((3, 21, 2))), [0.0, 5.0, 1.0])
    assert mean([1.0, 2.0]) == 1.5
    assert math.isnan(mean([]))


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([9.0, 5.0, 1.0], 0.0),
        ([9.0, 3.0, 5.0, 1.0], 0.25),
        ([2.0, 1.0, 2.0], math.inf),
        ([1.0, 3.0], math.inf),
    ],
)
def test_largest_rise(curve: list[float], expected: float) -> None:
    assert largest_rise(curve) == expected


def test_judge_sees_every_crop_once_and_in_order(judge: Judge) -> None:
    crops = list(np.random.default_rng(0).integers(0, 256, (53, CROP, CROP, 3)).astype(np.uint8))
    seen = judged(judge, crops)
    assert seen.joints.shape == (53, 21, 2)
    alone = judged(judge, crops[51:52])
    np.testing.assert_allclose(seen.logits[51], alone.logits[0], atol=1e-4)
    np.testing.assert_allclose(seen.features[51], alone.features[0], atol=1e-4)


@pytest.mark.parametrize("side", ["left", "right"])
def test_points_land_where_the_crop_shows_them(hands: dict[str, Example], side: str) -> None:
    one = hands[side]
    dots = np.zeros(one.picture.depth.shape, np.uint8)
    column, row = (int(v) for v in one.picture.hands[0].keypoints[9])
    dots[row - 2 : row + 3, column - 2 : column + 3] = 255
    shown = one.cut(dots).astype(np.float64)
    ys, xs = np.mgrid[:CROP, :CROP] + 0.5
    centre = (shown * xs).sum() / shown.sum(), (shown * ys).sum() / shown.sum()
    points = one.points(np.array([[column + 0.5, row + 0.5]], np.float32))
    np.testing.assert_allclose(points[0], centre, atol=0.2)


def test_true_box_fills_the_crop_as_it_should(hands: dict[str, Example]) -> None:
    for one in hands.values():
        box = one.points(one.picture.hands[0].box.reshape(2, 2))
        np.testing.assert_allclose(
            np.sort(box, axis=0), CROP * (0.5 + np.array([[-0.5], [0.5]]) / 1.3) * [1, 1], rtol=1e-4
        )
        assert ((one.keypoints > 0) & (one.keypoints < CROP)).all()


def test_overlap_of_boxes() -> None:
    assert overlap((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert overlap((0, 0, 2, 2), (2, 0, 4, 2)) == 0.0
    assert overlap((0, 0, 2, 3), (0, 0, 2, 3)) == 1.0


def test_the_hand_that_is_not_the_true_one_is_not_measured(
    refiner: Refiner, hands: dict[str, Example]
) -> None:
    one = hands["right"]
    corner = [0.0, 0.0, 12.0, 12.0]

    def elsewhere(image: NDArray[np.uint8], *, strength: float, seed: int) -> Result:
        return refiner(image, hands=[corner], strength=strength, seed=seed)

    made = repair(elsewhere, one, one.picture.malformed, 0.5)
    assert made.joints is None
    found = refiner(one.picture.malformed, hands=[corner, one.picture.hands[0].box])
    best = one.same_hand(found.hands)
    assert best is found.hands[1]


def test_quality_runs_from_pictures_to_drawings(refiner: Refiner, judge: Judge, tmp_path: Path) -> None:
    boxes = {one.seed: one.picture.hands[0].box for one in map(example, range(2_000_000, 2_000_002))}

    def told(image: NDArray[np.uint8], *, strength: float, seed: int) -> Result:
        return refiner(image, hands=[boxes[seed]], strength=strength, seed=seed)

    measured = quality.measure(told, judge, count=2, curve_count=2)
    by_name = {figure.name: figure.value for figure in measured.figures}
    assert by_name["malformed hands found"] == 1.0
    assert by_name["repaired flagged"] == flagged(measured.logits["repaired"])
    at_default = next(point for point in measured.curve if point.strength == 0.55)
    # Here the curve has all pictures, so both ways to the error at the default strength must agree.
    assert by_name["joint error at strength 0.55"] == pytest.approx(at_default.mean)
    # Each strength conditions another picture, on the same mesh.
    first, last = (measured.curve[k].repairs[0] for k in (0, -1))
    assert (first.image != last.image).any()
    np.testing.assert_array_equal(first.joints, last.joints)
    quality.contact_sheet(measured.examples, measured.repairs, tmp_path / "sheet.png")
    quality.phase_transition(measured.curve, measured.examples, measured.judge_error, tmp_path / "curve.png")
    for name in ("sheet.png", "curve.png"):
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 150
            assert len(picture.convert("RGB").getcolors(1 << 24)) > 1000


def test_quality_without_hands_fails_and_says_so(
    random_pack: Path, cache_folder: Path, judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "load", lambda: judge)
    monkeypatch.setattr(quality, "FIRST", 2_000_002)
    out = tmp_path / "quality.json"
    options = ["--count", "2", "--curve-count", "2", "--out", str(out), "--images", str(tmp_path)]
    assert quality.main(["--pack", str(random_pack), *options]) == 1  # nothing in these pictures is red
    stored = json.loads(out.read_text())
    assert stored["seeds"] == {"first": 2_000_002, "count": 2, "curve": 2}
    values = {figure.name: figure for figure in figures_of(stored)}
    assert values["malformed hands found"].value == 0.0
    assert math.isnan(values["joint error at strength 0.55"].value)
    assert not values["joint error at strength 0.55 / judge's own"].holds


def test_figures_keep_or_miss_their_bounds() -> None:
    assert Figure("a", 0.25, "%", 0.25).holds
    assert not Figure("a", 0.26, "%", 0.25).holds
    assert Figure("a", 3.0, "x", 3.0, "at least").holds
    assert not Figure("a", 2.9, "x", 3.0, "at least").holds
    assert not Figure("a", math.nan, "", 1.0).holds
    assert Figure("a", math.nan).holds
    text = table([Figure("flagged", 0.123, "%", 0.05), Figure("longer name", 1234.5, "ms")])
    assert [line.split() for line in text.splitlines()[2:]] == [
        ["flagged", "12.3", "%", "<=", "5.0", "%", "MISSED"],
        ["longer", "name", "1234", "ms"],
    ]


def test_results_survive_their_file(tmp_path: Path) -> None:
    figures = [Figure("a", 0.5, "%", 0.9, "at least", "how"), Figure("b", math.inf, "x", 1.0)]
    path = tmp_path / "new" / "speed.json"
    write_json(path, document("speed", figures, 1, pack="p"))
    stored = json.loads(path.read_text())
    assert figures_of(stored)[0] == figures[0]
    assert math.isnan(figures_of(stored)[1].value)
    assert stored["environment"]["threads"] == 1
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"value": math.nan})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_report_fills_the_marked_blocks_only(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    rest = "<!-- bench:other -->\n<!-- /bench:other -->\n"
    text = f"<!-- bench:speed -->\nold\n<!-- /bench:speed -->\n{rest}"
    page.write_text(text)
    figures = [Figure("ratio", 4.0, "x", 3.0, "at least", "higher is better"), Figure("share", 0.5, "%", 0.1)]
    write_json(tmp_path / "results" / "speed.json", document("speed", figures, 2, pack="p 1"))
    options = ["--results", str(tmp_path / "results"), "--page", str(page)]
    assert report.main([*options, "--check"]) == 1
    assert page.read_text() == text
    assert report.main(options) == 0
    new = page.read_text()
    assert "| ratio (higher is better) | 4 x | >= 3 x | ok |\n| share | 50.0 % | <= 10.0 % | MISSED |" in new
    assert "old" not in new
    assert new.endswith(rest)
    assert report.main([*options, "--check"]) == 0
    with pytest.raises(ValueError, match=r"no markers.*quality"):
        report.filled(new, {"quality": {}})


def test_peer_has_the_weights_of_the_pack(random_pack: Path) -> None:
    from bench.peer import make_modules
    from export.tiny.random_pack import make_modules as made_of

    rebuilt, original = make_modules(open_pack(random_pack)), made_of()
    for name in ("unet", "controlnet", "vae", "text_encoder"):
        expected = original[name].state_dict()
        found = rebuilt[name].state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected), name
    text = "an open hand"
    assert rebuilt["tokenizer"](text)["input_ids"] == original["tokenizer"](text)["input_ids"]
    assert rebuilt["vae"].config.scaling_factor == original["vae"].config.scaling_factor


def test_both_sides_are_given_the_same_work(random_pack: Path, cache_folder: Path) -> None:
    from bench.peer import make_pipeline

    pack, refiner, job, steps = open_workload(str(random_pack), threads=1)
    side = pack.settings.crop
    assert job.crop.shape == (side, side, 3)
    # The mask holds the hand, and both lie in the crop.
    assert 0.1 < (job.mask > 127).mean() < 0.9
    assert (job.mask[job.depth > 0] > 127).mean() > 0.98
    result = refine(refiner, job)
    assert result.status == "refined"
    assert len(result.hands) == 1
    pipeline = make_pipeline(pack)
    assert run_pipeline(pipeline, job, pack).shape == job.crop.shape
    assert steps.disagreement(pipeline) < 1e-4
    assert len(steps.loop().step_seconds) == pack.settings.steps
    assert steps.torch_step(pipeline)().shape == (1, 4, side // 4, side // 4)
    half = make_pipeline(pack, "bf16")
    assert half.unet.dtype == torch.bfloat16
    assert np.isfinite(run_pipeline(half, job, pack)).all()
    assert steps.torch_step(half)().shape == (1, 4, side // 4, side // 4)


def test_guided_step_is_the_same_work_on_all_three_sides() -> None:
    case = KernelCase(known=False)
    expected = case.numpy()()
    np.testing.assert_allclose(np.asarray(case.torch()()), expected, atol=1e-5)
    columns = {f.name for f in fields(case.table)} - {"init_signal", "init_noise", "init_known"}
    row = slice(case.row, case.row + 1)
    one_row = {name: getattr(case.table, name)[row] for name in columns}
    single = replace(case.table, **one_row, init_signal=1.0, init_noise=0.0)
    assert single.guidance[0] == GUIDANCE
    result = case.loop.run(
        single, shape=SHAPE, seeds=np.zeros(SHAPE[0], np.uint64), condition={}, initial=case.state
    )
    np.testing.assert_allclose(np.asarray(result.latents), expected, atol=1e-5)
