"""Detection: letterboxing and the decoding of synthetic maps."""

from __future__ import annotations

import numpy as np
import pytest
from hoirt.hands.detect import INPUT_SIZE, MAX_HANDS, Letterbox, decode, iou, letterbox
from hypothesis import example, given, settings
from hypothesis import strategies as st

CELLS = 24


def maps() -> dict[str, np.ndarray]:
    return {
        "score": np.zeros((CELLS, CELLS), np.float32),
        "center": np.full((2, CELLS, CELLS), 0.5, np.float32),
        "side": np.full((CELLS, CELLS), np.log(0.2), np.float32),
        "left": np.zeros((CELLS, CELLS), np.float32),
    }


def plain(height: int = INPUT_SIZE, width: int = INPUT_SIZE) -> Letterbox:
    return letterbox(np.zeros((height, width, 3), np.uint8))[1]


@pytest.mark.parametrize("size", [(1, 1), (192, 192), (100, 300), (301, 100), (2000, 3), (1, 1000)])
def test_letterbox_centres_and_inverts(size: tuple[int, int]) -> None:
    picture = np.full((*size, 3), 200, np.uint8)
    square, frame = letterbox(picture)
    assert square.shape == (INPUT_SIZE, INPUT_SIZE, 3)
    rows, columns = np.nonzero(square[..., 0])
    top, left = frame.to_picture(columns.min(), rows.min())[::-1]
    bottom, right = frame.to_picture(columns.max() + 1, rows.max() + 1)[::-1]
    assert np.allclose((top, left, bottom, right), (0, 0, *size), atol=1e-6)
    assert abs(rows.min() - (INPUT_SIZE - 1 - rows.max())) <= 1  # centred
    assert abs(columns.min() - (INPUT_SIZE - 1 - columns.max())) <= 1


@settings(max_examples=60)
@given(
    st.tuples(st.integers(20, 900), st.integers(20, 900)),
    st.tuples(st.floats(0.05, 0.95), st.floats(0.05, 0.95)),
    st.floats(0.05, 0.9),
    st.booleans(),
)
@example((20, 812), (0.5, 0.5), 0.75, False)  # 5 rows in the square, where 4.7 would be right
def test_a_box_is_found_where_it_was_put(
    size: tuple[int, int], place: tuple[float, float], share: float, left: bool
) -> None:
    """Encodes a box the way the format says, by hand, and decodes it again."""
    height, width = size
    frame = plain(height, width)
    x, y = place[0] * width, place[1] * height
    column, row = frame.left + x * frame.scale_x, frame.top + y * frame.scale_y
    i, j = int(row // 8), int(column // 8)
    given_maps = maps()
    given_maps["score"][i, j] = 0.9
    given_maps["center"][:, i, j] = column / 8 - j, row / 8 - i
    given_maps["side"][i, j] = np.log(share)
    given_maps["left"][i, j] = float(left)
    (found,) = decode(given_maps, frame, 0.5)
    side = share * max(height, width)
    expected = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
    assert np.allclose(found.box, expected, atol=1e-3 * max(size))
    assert found.score == pytest.approx(0.9) and found.side == ("left" if left else "right")


def test_only_peaks_above_the_threshold() -> None:
    given_maps = maps()
    given_maps["score"][5, 5:8] = 0.6, 0.9, 0.7
    given_maps["score"][15, 15] = 0.4
    assert [round(found.score, 2) for found in decode(given_maps, plain(), 0.5)] == [0.9]
    assert len(decode(given_maps, plain(), 0.3)) == 2
    assert decode(maps(), plain(), 0.5) == []


def test_overlapping_boxes_are_one_hand() -> None:
    given_maps = maps()
    given_maps["score"][10, 10], given_maps["score"][10, 12], given_maps["score"][10, 20] = 0.8, 0.9, 0.7
    found = decode(given_maps, plain(), 0.5)
    assert [round(hand.score, 1) for hand in found] == [0.9, 0.7]


def test_at_most_max_hands_best_first() -> None:
    given_maps = maps()
    given_maps["side"][:] = np.log(0.03)
    given_maps["score"][::2, ::2] = np.linspace(0.5, 0.99, 144).reshape(12, 12)
    scores = [hand.score for hand in decode(given_maps, plain(), 0.5)]
    assert len(scores) == MAX_HANDS and scores == sorted(scores, reverse=True) and scores[0] > 0.98


def test_hands_beside_the_picture_do_not_count() -> None:
    given_maps = maps()
    given_maps["score"][0, 12] = 0.9  # in the black above a landscape picture
    assert decode(given_maps, plain(60, 192), 0.5) == []


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_wild_maps_give_sane_boxes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    wild = {
        "score": rng.normal(0, 2, (CELLS, CELLS)),
        "center": rng.normal(0, 3, (2, CELLS, CELLS)),
        "side": rng.normal(0, 50, (CELLS, CELLS)),
        "left": rng.normal(0, 1, (CELLS, CELLS)),
    }
    for values in wild.values():
        values[rng.random(values.shape) < 0.2] = rng.choice([np.nan, np.inf, -np.inf])
    found = decode(wild, plain(480, 640), 0.5)
    assert len(found) <= MAX_HANDS
    for hand in found:
        assert np.isfinite(hand.box).all()
        assert 0 < hand.box[2] - hand.box[0] <= 640 * 1.01
    assert all(iou(a.box, b.box) <= 0.4 for k, a in enumerate(found) for b in found[:k])


def test_iou() -> None:
    assert iou((0, 0, 2, 2), (0, 0, 2, 2)) == 1.0
    assert iou((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert iou((0, 0, 1, 1), (2, 2, 3, 3)) == 0.0
