"""What a caller may tell about the hands, and what each form of it means."""

from __future__ import annotations

from typing import Any

import hoirt
import numpy as np
import pytest
from blobs import scene
from hoirt.hands.agreement import MALFORMED_FROM
from hoirt.hands.told import Place, read_told
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

SIZE = (120, 160)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return scene(*SIZE, hands=2)


@pytest.fixture(scope="module")
def found(refiner: hoirt.Refiner, picture: np.ndarray) -> list[hoirt.hands.hand.Hand]:
    return refiner.detect(picture)


def test_all_is_none(refiner: hoirt.Refiner, picture: np.ndarray, found: list[Any]) -> None:
    assert len(found) == 2
    everything = refiner.detect(picture, hands="all")
    assert [hand.box for hand in everything] == [hand.box for hand in found]
    assert all(np.array_equal(a.vertices, b.vertices) for a, b in zip(everything, found, strict=True))


def test_indices_count_in_the_order_of_detect(
    refiner: hoirt.Refiner, picture: np.ndarray, found: list[Any]
) -> None:
    for order in ([0], [1], [1, 0], np.array([1]), (np.int64(0),)):
        assert [hand.box for hand in refiner.detect(picture, hands=order)] == [
            found[int(k)].box for k in order
        ]
    assert refiner.detect(picture, hands=[]) == []
    with pytest.raises(hoirt.InputError, match="detected hand 2, but 2 hands were detected"):
        refiner.detect(picture, hands=[2])
    with pytest.raises(hoirt.InputError, match=r"single box is written hands=\[\(x0"):
        refiner.detect(picture, hands=[10, 20, 50, 60])
    with pytest.raises(hoirt.InputError, match="counted from 0"):
        refiner.detect(picture, hands=[-1])
    with pytest.raises(hoirt.InputError, match="twice"):
        refiner.detect(picture, hands=[0, 0])


def test_malformed_are_those_above_the_threshold(
    refiner: hoirt.Refiner, picture: np.ndarray, found: list[Any]
) -> None:
    assert all(hand.malformed is not None and 0 <= hand.malformed <= 1 for hand in found)
    expected = [hand.box for hand in found if hand.malformed > MALFORMED_FROM]
    assert [hand.box for hand in refiner.detect(picture, hands="malformed")] == expected


def test_a_mask_means_the_box_of_its_pixels(refiner: hoirt.Refiner, picture: np.ndarray) -> None:
    mask = np.zeros(SIZE, np.uint8)
    mask[40, 50], mask[80, 90] = 255, 1
    for kind in (mask, mask > 0, mask.tolist()):
        if isinstance(kind, list):  # numbers without a type could be anything
            with pytest.raises(hoirt.InputError, match="shape"):
                refiner.detect(picture, hands=[kind])
            continue
        (hand,) = refiner.detect(picture, hands=[kind])
        assert hand.box == (50, 40, 91, 81) and hand.score == 1.0


def test_forms_mix_and_keep_their_order(
    refiner: hoirt.Refiner, picture: np.ndarray, found: list[Any]
) -> None:
    mask = np.zeros(SIZE, bool)
    mask[30:90, 90:150] = True
    points = np.random.default_rng(0).uniform((30, 40), (60, 80), (21, 2))
    hands = refiner.detect(picture, hands=[mask, 1, (20, 30, 80, 90), found[0], points])
    assert hands[0].box == (90, 30, 150, 90) and hands[1].box == found[1].box
    assert hands[2].box == (20, 30, 80, 90) and hands[3] is found[0]
    box = np.array(hands[4].box)
    assert (points.min(axis=0) > box[:2]).all() and (points.max(axis=0) < box[2:]).all()


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("malformd", '"all", "malformed" or a list'),
        (7, "not a int"),
        (np.float32(1), "list"),
        (np.array(3), "without dimensions"),
        (np.zeros(SIZE, bool), r"write hands=\[mask\]"),
        ([True], r"hands\[0\] is a bool"),
        ([None], r"hands\[0\] is a NoneType"),
        (["all"], r"hands\[0\] is a str"),
        ([1.5], r"hands\[0\] is a float"),
        ([(1, 2, 3)], r"shape \(3,\)"),
        ([[(1, 2), (3,)]], r"hands\[0\] is a list"),
        ([np.zeros((20, 2))], r"shape \(20, 2\)"),
        ([np.zeros((21, 3))], r"shape \(21, 3\)"),
        ([(0, 0, np.nan, 5)], "NaN"),
        ([np.full((21, 2), np.inf)], "NaN"),
        ([(5, 5, 5, 9)], "empty or outside"),
        ([(200, 5, 210, 9)], "empty or outside"),
        ([np.full((21, 2), 9.0)], "empty or outside"),
        ([(0j, 0, 1, 1)], r"hands\[0\] is a tuple"),
        ([np.zeros(SIZE, bool)], "no pixel is set"),
        ([np.ones((160, 120), bool)], r"mask of shape \(160, 120\), but the picture's"),
        ([np.ones((120, 160, 1), np.uint8)], r"shape \(120, 160, 1\)"),
        ([np.ones(SIZE, np.float32)], r"shape \(120, 160\)"),
        ([(0, 0, 9, 9)] * 65, "at most 64"),
        ([np.empty((0, 4))], r"hands\[0\]"),
    ],
)
def test_what_is_no_hand_is_refused(told: Any, message: str) -> None:
    with pytest.raises(hoirt.InputError, match=message):
        read_told(told, SIZE)


@settings(max_examples=100)
@given(
    st.one_of(
        hnp.arrays(
            st.sampled_from([np.float64, np.int32, np.uint8, np.bool_]), hnp.array_shapes(max_side=24)
        ),
        st.lists(
            st.one_of(st.integers(), st.floats(), st.text(max_size=3), st.none(), st.booleans()), max_size=6
        ),
    )
)
def test_anything_is_an_entry_or_an_input_error(entry: Any) -> None:
    try:
        (read,) = read_told([entry], (24, 24))
    except hoirt.InputError:
        return
    assert isinstance(read, Place)
    x0, y0, x1, y1 = read.box
    assert 0 <= x0 < x1 <= 24 and 0 <= y0 < y1 <= 24
