"""The second look at a picture in tiles: where they lie, what they keep, and that small hands are found."""

from __future__ import annotations

from itertools import pairwise

import hoirt
import numpy as np
import pytest
from blobs import LEFT, RIGHT
from hoirt.hands.detect import MAX_HANDS, Detection, iou
from hoirt.hands.tiles import merge, search, windows
from hypothesis import given, settings
from hypothesis import strategies as st


class Oracle:
    """Finds the given boxes that lie whole in the view and are at least a quarter of its input wide."""

    input_size, threshold = 100, 0.5

    def __init__(self, picture: np.ndarray, boxes: list[tuple[float, float, float, float]]) -> None:
        self.marks = picture[..., 0].astype(int) * 65536 + picture[..., 1].astype(int) * 256 + picture[..., 2]
        self.boxes, self.views = boxes, 0

    def __call__(self, picture: np.ndarray, threshold: float) -> list[Detection]:
        self.views += 1
        number = int(picture[0, 0] @ np.array([65536, 256, 1]))
        top, left = divmod(number, self.marks.shape[1])
        scale = 100 / max(picture.shape[:2])
        found = []
        for box in self.boxes:
            x0, y0, x1, y1 = box[0] - left, box[1] - top, box[2] - left, box[3] - top
            inside = x0 >= 0 and y0 >= 0 and x1 <= picture.shape[1] and y1 <= picture.shape[0]
            if inside and (x1 - x0) * scale >= 12.5:
                found.append(Detection((x0, y0, x1, y1), 0.9, "left"))
        return found

    def look_at(self, picture: np.ndarray, box: tuple[float, float, float, float]) -> Detection:
        raise NotImplementedError


def numbered(height: int, width: int) -> np.ndarray:
    """A picture whose pixels tell where they lie."""
    number = np.arange(height * width).reshape(height, width)
    return np.stack([number >> 16, number >> 8 & 255, number & 255], axis=-1).astype(np.uint8)


@settings(max_examples=60, deadline=None)
@given(st.integers(250, 1500), st.integers(60, 1500), st.data())
def test_every_hand_down_to_an_eighth_of_a_tile_is_found(
    height: int, width: int, data: st.DataObject
) -> None:
    longer, shorter = max(height, width), min(height, width)
    side = data.draw(st.integers(max(longer // 32 + 1, 25), min(longer // 4, shorter - 1)))
    left, top = data.draw(st.integers(0, width - side)), data.draw(st.integers(0, height - side))
    picture = numbered(height, width)
    oracle = Oracle(picture, [(left, top, left + side, top + side)])
    found = search(oracle, picture, 0.5)  # type: ignore[arg-type]
    assert [hand.box for hand in found] == oracle.boxes
    assert oracle.views <= 1 + 49


@settings(max_examples=60)
@given(st.integers(1, 9000), st.integers(1, 9000))
def test_tiles_cover_the_picture(height: int, width: int) -> None:
    tiles = list(windows((height, width), 192))
    if max(height, width) <= 384:
        assert tiles == []
        return
    assert len(tiles) <= 49
    for length, spans in (
        (width, sorted({(t.left, t.left + t.width) for t in tiles})),
        (height, sorted({(t.top, t.top + t.height) for t in tiles})),
    ):
        assert spans[0][0] == 0 and spans[-1][1] == length
        assert all(b[0] - a[0] <= (a[1] - a[0]) / 2 + 1 for a, b in pairwise(spans))


def test_small_pictures_are_seen_once() -> None:
    for height, width, tiles, views in ((249, 100, "auto", 1), (900, 900, False, 1), (200, 200, True, 1)):
        picture = numbered(height, width)
        oracle = Oracle(picture, [])
        assert search(oracle, picture, 0.5, tiles) == [] and oracle.views == views  # type: ignore[arg-type]


def box_at(x: float, y: float, side: float) -> tuple[float, float, float, float]:
    return x, y, x + side, y + side


def test_merge_keeps_the_surest_of_a_hand() -> None:
    whole = [Detection(box_at(0, 0, 100), 0.9, "left"), Detection(box_at(300, 0, 80), 0.5, "right")]
    finger = Detection(box_at(60, 10, 30), 0.8, "left")
    better = Detection(box_at(305, 5, 75), 0.7, "left")
    new = Detection(box_at(500, 500, 20), 0.6, "right")
    assert merge(whole, [finger, new, better]) == [whole[0], better, new]
    # Two small hands that the whole picture took for one.
    pair = [Detection(box_at(302, 30, 35), 0.8, "left"), Detection(box_at(340, 30, 35), 0.7, "right")]
    assert merge(whole, pair) == [whole[0], *pair]
    many = [Detection(box_at(30 * k, 0, 20), k / 100, "left") for k in range(100)]
    assert [hand.score for hand in merge([], many)] == [k / 100 for k in range(99, 99 - MAX_HANDS, -1)]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 90), st.integers(1, 60)), max_size=12))
def test_merged_boxes_never_overlap_much(places: list[tuple[int, int, int]]) -> None:
    closer = [Detection(box_at(*place), 1 - k / 50, "left") for k, place in enumerate(places)]
    merged = merge([], closer)
    assert all(iou(a.box, b.box) <= 0.4 for k, a in enumerate(merged) for b in merged[:k])
    assert [hand.score for hand in merged] == sorted((hand.score for hand in merged), reverse=True)


def test_tiles_find_small_blobs(refiner: hoirt.Refiner) -> None:
    picture = np.full((700, 1000, 3), 90, np.uint8)
    y, x = np.mgrid[:700, :1000]
    centres = [(200, 180, RIGHT), (480, 730, LEFT), (90, 900, RIGHT)]
    for row, column, colour in centres:
        picture[(y - row) ** 2 + (x - column) ** 2 < 14**2] = colour
    assert refiner.detect(picture, tiles=False) == []
    for tiles in ("auto", True):
        found = refiner.detect(picture, tiles=tiles)  # type: ignore[arg-type]
        assert len(found) == 3
        for row, column, colour in centres:
            (hand,) = [h for h in found if h.box[0] < column < h.box[2] and h.box[1] < row < h.box[3]]
            assert abs((hand.box[0] + hand.box[2]) / 2 - column) < 4
            assert hand.side == ("left" if colour is LEFT else "right")
    with pytest.raises(hoirt.InputError, match="tiles"):
        refiner.detect(picture, tiles="yes")  # type: ignore[arg-type]
