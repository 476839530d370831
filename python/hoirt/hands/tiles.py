"""Small hands: the picture is searched once as a whole and once more in overlapping tiles."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hoirt.hands.detect import MAX_HANDS, Detection, Detector, area, intersection, iou
from hoirt.hands.window import Box, Window

Tiles: TypeAlias = Literal["auto"] | bool

AUTO_FROM = 2.5  # "auto" tiles pictures whose longer side is this many detector inputs or more
_TILE = 2.0  # smallest side of a tile in detector inputs: hands twice as small are then seen as well
_MOST_ACROSS = 4  # and largest side: the picture's longer side over this; so there are at most 7 x 7 tiles
_SAME = 0.4  # intersection over union above which two boxes are one hand
_INSIDE = 0.6  # share of a box inside another one above which it is a part of that hand
_SLACK = 0.02  # of a tile's side: how far a box may hang over its inner border


def search(
    detector: Detector, picture: NDArray[np.uint8], threshold: float, tiles: Tiles = "auto"
) -> list[Detection]:
    """Hands of an RGB uint8 picture (H, W, 3), best first, at most MAX_HANDS.

    `tiles`: False, the picture is seen once, shrunk to the detector's input (side I); True, tiles are
    searched as well; "auto", they are where the longer side is at least 2.5 I, so for 192 pixels from 480.
    A tile is max(2 I, longer side / 4) wide and begins at most half a tile after its neighbour, so that every
    hand of up to half a tile lies in one of them whole.
    """
    found = detector(picture, threshold)
    height, width = picture.shape[:2]
    if tiles is False or (tiles == "auto" and max(height, width) < AUTO_FROM * detector.input_size):
        return found
    closer = [
        hand
        for tile in windows((height, width), detector.input_size)
        for hand in _in_tile(detector, picture, tile, threshold)
    ]
    return merge(found, closer)


def windows(size: tuple[int, int], input_size: int) -> Iterator[Window]:
    """The tiles of a picture of `size` (H, W); none if it is not larger than one tile."""
    side = max(math.ceil(_TILE * input_size), math.ceil(max(size) / _MOST_ACROSS))
    if max(size) <= side:
        return
    for top in _starts(size[0], side):
        for left in _starts(size[1], side):
            yield Window(left, top, min(side, size[1]), min(side, size[0]))


def merge(whole: list[Detection], closer: list[Detection]) -> list[Detection]:
    """Finds of the whole picture and of its tiles, each hand once, best first, at most MAX_HANDS.

    Boxes are of one hand if they overlap by more than 0.4 of their union, or if more than 0.6 of the smaller
    one lies in the other: a finger or a knuckle taken for a hand, or a hand so small that its box was guessed
    too large in the whole picture. The surest one stays.
    """
    kept = list(whole)
    for hand in sorted(closer, key=lambda hand: -hand.score):
        same = [other for other in kept if _one_hand(hand.box, other.box)]
        if all(hand.score > other.score for other in same):
            kept = [other for other in kept if not any(other is one for one in same)] + [hand]
    return sorted(kept, key=lambda hand: -hand.score)[:MAX_HANDS]


def _in_tile(
    detector: Detector, picture: NDArray[np.uint8], tile: Window, threshold: float
) -> Iterator[Detection]:
    rows, columns = tile.clipped((picture.shape[0], picture.shape[1]))
    for hand in detector(np.ascontiguousarray(picture[rows, columns]), threshold):
        moved = shifted(hand, tile.left, tile.top)
        if not _cut(moved.box, tile, (picture.shape[0], picture.shape[1])):
            yield moved


def shifted(hand: Detection, dx: float, dy: float) -> Detection:
    """The same find in the pixels of a picture that begins (dx, dy) further left and up."""
    x0, y0, x1, y1 = hand.box
    points = None if hand.keypoints is None else (hand.keypoints + np.array([dx, dy])).astype(np.float32)
    return replace(hand, box=(x0 + dx, y0 + dy, x1 + dx, y1 + dy), keypoints=points)


def _cut(box: Box, tile: Window, size: tuple[int, int]) -> bool:
    """Whether the tile's border may cut the hand: another tile shows it whole, or the whole picture does."""
    slack = _SLACK * max(tile.width, tile.height)
    return (
        (tile.left > 0 and box[0] < tile.left - slack)
        or (tile.top > 0 and box[1] < tile.top - slack)
        or (tile.left + tile.width < size[1] and box[2] > tile.left + tile.width + slack)
        or (tile.top + tile.height < size[0] and box[3] > tile.top + tile.height + slack)
    )


def _one_hand(a: Box, b: Box) -> bool:
    return iou(a, b) > _SAME or intersection(a, b) > _INSIDE * min(area(a), area(b))


def _starts(length: int, side: int) -> list[int]:
    """Where tiles begin along an axis: evenly, at most half a tile apart."""
    if length <= side:
        return [0]
    count = math.ceil((length - side) / (side / 2)) + 1
    return [round(k * (length - side) / (count - 1)) for k in range(count)]
