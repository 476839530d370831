"""The pieces of the paper's Table 3 on data whose answers are known, and the whole of it on a random pack."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hoirt import Refiner, Result
from hoirt.hands.hand import project
from hoirt.hands.render import draw_depth
from hoirt.hands.window import Window
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from bench import distances, table3
from bench.held_out import Example, example
from bench.judges import network
from bench.judges.network import Judge, frechet_distance
from bench.measures import judged
from bench.record import figures_of
from bench.repaint import CROP, Configuration, confidence, general_depth, hole, repaint, true_hand
from bench.report import markdown, rendered

Crops = list[NDArray[np.uint8]]


@pytest.fixture(scope="module")
def judge() -> Judge:
    torch.manual_seed(0)
    return Judge().eval()


@pytest.fixture(scope="module")
def hands() -> dict[str, Example]:
    """A left and a right hand."""
    return {one.picture.hands[0].side: one for one in map(example, (2_000_000, 2_000_001))}


class Tiles(nn.Module):
    """Stands for the judge: the features are the colours of the crop's first tiles of 16 pixels."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = functional.avg_pool2d(images, 16).flatten(1)[:, : network.FEATURES]
        return features[:, 0], torch.zeros(len(images), 21, 2), 4.0 * features


@pytest.fixture(scope="module")
def crops() -> dict[str, Crops]:
    """Two sets of coloured tiles, more than there are features, of unlike brightness."""
    rng = np.random.default_rng(0)

    def tiles(low: int, high: int) -> Crops:
        return [
            np.repeat(np.repeat(rng.integers(low, high, (8, 8, 3), np.uint8), 16, 0), 16, 1)
            for _ in range(200)
        ]

    return {"dark": tiles(0, 200), "light": tiles(30, 255)}


def test_torchmetrics_and_scipy_agree_on_the_frechet_distance(crops: dict[str, Crops]) -> None:
    pytest.importorskip("torchmetrics")
    dark, light = crops["dark"], crops["light"]
    wanted = frechet_distance(judged(Tiles(), dark).features, judged(Tiles(), light).features)
    assert wanted > 1.0
    assert distances.frechet(Tiles(), dark, light) == pytest.approx(wanted, rel=1e-4)
    assert distances.frechet(Tiles(), dark, dark) == pytest.approx(0.0, abs=1e-6 * wanted)


def test_kernel_distance_is_the_unbiased_cubic_mmd_of_halves(crops: dict[str, Crops]) -> None:
    pytest.importorskip("torchmetrics")
    dark, light = crops["dark"][:30], crops["light"][:20]
    a, b = (judged(Tiles(), part).features for part in (dark, light))

    def similar(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        return np.asarray((x @ y.T / x.shape[1] + 1.0) ** 3)

    half, off, values = 10, 1.0 - np.eye(10), []
    torch.manual_seed(5)
    for _ in range(distances.SUBSETS):
        x, y = a[torch.randperm(30)[:half].numpy()], b[torch.randperm(20)[:half].numpy()]
        within = ((similar(x, x) + similar(y, y)) * off).sum() / (half * (half - 1))
        values.append(within - 2.0 * similar(x, y).mean())
    found = distances.kernel(Tiles(), dark, light, seed=5)
    assert found == pytest.approx(np.mean(values), rel=1e-6)
    assert found == distances.kernel(Tiles(), dark, light, seed=5)
    assert abs(distances.kernel(Tiles(), dark, crops["dark"][30:60])) < 0.1 * found


@pytest.mark.parametrize("side", ["left", "right"])
def test_true_hand_is_where_it_was_drawn(hands: dict[str, Example], side: str) -> None:
    one = hands[side]
    hand = true_hand(one.picture)
    assert hand.side == side
    np.testing.assert_allclose(project(hand.joints, hand.camera), hand.keypoints, atol=0.01)
    size = one.picture.depth.shape
    drawn = draw_depth([hand], Window.whole(size), size)
    both = (drawn > 0) & (one.picture.depth > 0)
    # The picture's map lacks what the sleeve hides.
    assert both.sum() > 0.99 * (one.picture.depth > 0).sum()
    shown = one.picture.region > 0
    assert (drawn[shown] > 0).mean() > 0.98


@pytest.mark.parametrize("side", ["left", "right"])
def test_hole_is_a_rectangle_that_holds_the_hand(hands: dict[str, Example], side: str) -> None:
    one = hands[side]
    mask = hole(one)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert mask.sum() == len(rows) * len(columns)
    shown = np.argwhere(one.picture.region > 0)
    pad = 8.0 * one.crop.side / CROP
    assert abs(shown.min(axis=0) - (rows[0], columns[0]) - pad).max() <= 2
    assert 0.05 < mask.mean() < 0.6


def test_general_depth_shows_the_whole_picture(hands: dict[str, Example]) -> None:
    one = hands["right"]
    depth = general_depth(one.picture)
    assert depth.dtype == np.uint8 and depth.shape == one.picture.depth.shape
    arm = (one.picture.distance > 0) & (one.picture.depth == 0)
    assert depth[arm].mean() > 100  # unlike the hand's own map, which is 0 there
    assert np.median(depth[one.picture.distance == 0]) == 0
    inside = depth[(one.picture.depth > 0)]
    own = one.picture.depth[one.picture.depth > 0]
    assert np.percentile(inside, 95) - np.percentile(inside, 20) < np.percentile(own, 95) - np.percentile(
        own, 20
    )


def test_confidence_is_the_best_score_on_the_hand(hands: dict[str, Example]) -> None:
    hand, box = true_hand(hands["left"].picture), np.array([10.0, 10.0, 50.0, 50.0], np.float32)
    here = replace(hand, box=(12.0, 8.0, 52.0, 48.0), score=0.4)
    here_too = replace(hand, box=(20.0, 20.0, 60.0, 60.0), score=0.6)
    elsewhere = replace(hand, box=(100.0, 100.0, 140.0, 140.0), score=0.9)
    assert confidence([elsewhere, here, here_too], box) == 0.6
    assert confidence([elsewhere], box) == 0.0


def test_repaint_tells_what_the_row_says(refiner: Refiner, hands: dict[str, Example]) -> None:
    one = hands["left"]
    calls: list[dict[str, Any]] = []

    def refine(image: NDArray[np.uint8], **options: Any) -> Result:
        calls.append(options)
        return refiner(image, **options)

    for depth in ("hand", "general"):
        how = Configuration("row", depth, 0.4, "no", None)
        made = repaint(refine, refiner.detect, one, how)
        assert made.strength == 0.4
        assert made.crop.shape == (CROP, CROP, 3)
        np.testing.assert_allclose(made.joints, one.keypoints)
        outside = ~hole(one)
        np.testing.assert_array_equal(made.image[outside], one.picture.image[outside])
        assert (made.image != one.picture.image).any()
    assert [("depth" in call) for call in calls] == [False, True]
    for call in calls:
        assert (call["prompt"], call["negative_prompt"]) == (one.picture.hands[0].caption, "no")
        assert (call["strength"], call["seed"]) == (0.4, one.seed)


def test_table_runs_from_pictures_to_the_page(
    refiner: Refiner, judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torchmetrics")
    monkeypatch.setattr(network, "load", lambda: judge)
    monkeypatch.setattr(table3.hoirt, "Refiner", lambda *_, **__: refiner)
    out = tmp_path / "table3.json"
    code = table3.main(["--count", "4", "--out", str(out), "--images", str(tmp_path)])
    stored = json.loads(out.read_text())
    figures = figures_of(stored)
    assert code == (0 if all(figure.holds for figure in figures) else 1)
    rows = {row["name"]: row for row in stored["rows"]}
    assert list(rows) == [*(how.name for how in table3.ROWS), table3.TRUTH]
    assert sum(stored["adaptive_chosen"].values()) == 4
    by_name = {figure.name: figure for figure in figures}
    tried = {"0.4": 2, "0.5": 3, "0.6": 4, "0.7": 5, "0.8": 6, "0.9": 7, "1": 7}
    runs = sum(tried[strength] * count for strength, count in stored["adaptive_chosen"].items()) / 4
    assert by_name["adaptive: runs of a hand, in order"].value == runs
    plain, negated = rows[table3.PLAIN], rows[table3.NEGATED]
    ratio = by_name["joint error, negative prompt / none"]
    assert ratio.value == pytest.approx(negated["joint_error"] / plain["joint_error"])
    assert ratio.note == "paper 0.919"
    assert by_name["Fréchet distance, adaptive / 0.55"].note == "paper 0.989"
    page = rendered(stored)
    assert markdown(stored["table"]) in page
    assert f"| {table3.PLAIN} | {plain['frechet']:.2f} | 14.357 |" in page
    assert page.count("\n| ") == 1 + len(rows) + len(figures)
    with Image.open(tmp_path / "table3.png") as picture:
        assert min(picture.size) > 400
