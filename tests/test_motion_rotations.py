"""Rotation converters against SciPy, torch's Gram-Schmidt and each other; the YAML reader against PyYAML."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hoirt import InputError
from hoirt.hands.motion_rotations import (
    from_6d,
    from_axis_angles,
    from_quaternions,
    metres,
    to_6d,
    to_axis_angles,
)
from hoirt.hands.motion_yaml import parse_yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.spatial.transform import Rotation

VECTORS = arrays.arrays(np.float64, (5, 3), elements=st.floats(-7, 7))
LAYOUTS = ("columns", "rows", "interleaved")


@settings(max_examples=100, deadline=None)
@given(VECTORS)
def test_axis_angles_equal_scipy(vectors: np.ndarray) -> None:
    expected = Rotation.from_rotvec(vectors).as_matrix()
    matrices = from_axis_angles(vectors)
    np.testing.assert_allclose(matrices, expected, atol=1e-12)
    again = to_axis_angles(matrices)
    assert (np.linalg.norm(again, axis=-1) <= np.pi + 1e-9).all()
    np.testing.assert_allclose(from_axis_angles(again), expected, atol=1e-9)


def test_half_turns_and_tiny_turns() -> None:
    for axis in np.r_[np.eye(3), np.random.default_rng(0).normal(size=(20, 3))]:
        for angle in (0.0, 1e-13, 1e-9, 1e-5, np.pi - 1e-9, np.pi, np.pi - 1e-4):
            vector = axis / np.linalg.norm(axis) * angle
            found = to_axis_angles(Rotation.from_rotvec(vector).as_matrix())
            np.testing.assert_allclose(from_axis_angles(found), from_axis_angles(vector), atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(VECTORS, st.floats(0.1, 10))
def test_quaternion_orders(vectors: np.ndarray, length: float) -> None:
    rotation = Rotation.from_rotvec(vectors)
    xyzw = rotation.as_quat() * length
    np.testing.assert_allclose(from_quaternions(xyzw, order="xyzw"), rotation.as_matrix(), atol=1e-9)
    wxyz = rotation.as_quat(scalar_first=True) * -length
    np.testing.assert_allclose(from_quaternions(wxyz, order="wxyz"), rotation.as_matrix(), atol=1e-9)


def gram_schmidt(first: np.ndarray, second: np.ndarray) -> list[np.ndarray]:
    x = first / np.linalg.norm(first)
    y = second - (x @ second) * x
    y = y / np.linalg.norm(y)
    return [x, y, np.cross(x, y)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_6d_layouts(seed: int) -> None:
    six = np.random.default_rng(seed).normal(size=6)
    columns = np.stack(gram_schmidt(six[:3], six[3:]), axis=1)
    np.testing.assert_allclose(from_6d(six, layout="columns"), columns, atol=1e-9)
    np.testing.assert_allclose(from_6d(six, layout="rows"), columns.T, atol=1e-9)  # the trap: the inverse
    pair = six.reshape(3, 2)
    expected = np.stack(gram_schmidt(pair[:, 0], pair[:, 1]), axis=1)
    np.testing.assert_allclose(from_6d(six, layout="interleaved"), expected, atol=1e-9)
    for layout in LAYOUTS:
        np.testing.assert_allclose(from_6d(to_6d(columns, layout=layout), layout=layout), columns, atol=1e-9)


def test_6d_equals_hamers_reshape() -> None:
    """HaMeR permutes (..., 2, 3) to (..., 3, 2) and takes the two columns."""
    six = np.random.default_rng(1).normal(size=(4, 6))
    pair = six.reshape(-1, 2, 3).transpose(0, 2, 1)
    expected = [np.stack(gram_schmidt(p[:, 0], p[:, 1]), axis=1) for p in pair]
    np.testing.assert_allclose(from_6d(six, layout="columns"), expected, atol=1e-12)


def test_units() -> None:
    np.testing.assert_allclose(metres([1500, -20], unit="mm"), [1.5, -0.02])
    np.testing.assert_allclose(metres(np.float32([[3.0]]), unit="cm"), [[0.03]])
    assert metres(2, unit="m") == 2.0
    for wrong in ("inch", "", None):
        with pytest.raises(InputError, match="unit"):
            metres(1.0, unit=wrong)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: from_6d(np.ones(6), layout="columns"), "length 0"),
        (lambda: from_6d(np.zeros(6), layout="rows"), "length 0"),
        (lambda: from_6d(np.eye(6), layout="diagonal"), "layout"),
        (lambda: from_6d(np.ones(5), layout="rows"), "shape"),
        (lambda: from_6d([["a"] * 6], layout="rows"), "numbers"),
        (lambda: to_6d(np.eye(3), layout="diagonal"), "layout"),
        (lambda: to_6d(np.eye(4), layout="rows"), "shape"),
        (lambda: from_quaternions(np.zeros(4), order="wxyz"), "length 0"),
        (lambda: from_quaternions(np.ones(4), order="zyxw"), "order"),
        (lambda: from_quaternions(np.full(4, np.nan), order="wxyz"), "NaN"),
        (lambda: from_axis_angles(np.ones(4)), "shape"),
        (lambda: from_axis_angles(3.0), "shape"),
        (lambda: to_axis_angles(np.eye(3) * 1.1), "no rotations"),
        (lambda: to_axis_angles(np.diag([1, 1, -1])), "mirror"),
        (lambda: metres("far", unit="m"), "numbers"),
    ],
)
def test_refusals(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


# YAML

DOCUMENTS = [
    "a: 1\nb: 2.5\nc: -3.5e-2\nd: text\ne: 'it: is'\nf: \"x\"\ng:\nh: true\ni: null\n",
    "serials:\n- '836212060125'\n- '839512060362'\nids:\n- 1\n- 2\nside: right\n",
    "serials:\n  - a\n  - b\nnested:\n  more:\n    fx: 613.5\n    list: [1, 2.5, x]\n  other: []\n# end\n",
    "---\n# a comment\nextrinsics: '20200702_151821'  # quoted\nf: a/b.c#d\n'a key': 1\n836212060125: 5\n",
    "- 1\n- two\n- 3.0\n",
    "a:\n  b:\n    - 0.1\n    - -0.2\n  c: 1.\nd: .5\ne: 1e3x\n",
]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_yaml_equals_pyyaml(document: str) -> None:
    yaml = pytest.importorskip("yaml")
    expected = yaml.safe_load(document)
    found = parse_yaml(document.encode(), "a.yml")
    if isinstance(expected, dict):
        expected = {str(key): value for key, value in expected.items()}
    assert found == expected


@pytest.mark.parametrize(
    "document",
    ["", "# nothing", "text", "a: &x 1", "a: *x", "a: !!python/name:os.system", "a: |\n  text", "a: >\n  b",
     "a: {b: c}", "a: [1, [2]]", "a: [1", "a: 'b", "a: b: c", "a: 1\na: 2", "a: 1\n b: 2", "<<: 1", "? a",
     "a:\n  b: 1\n c: 2", "\ta: 1", "- a: 1", "- - 1", "a: 1\n- 2", "a: @b", "a: \"\\x41\"",
     "\n".join(" " * k + "a:" for k in range(40))],
)  # fmt: skip
def test_yaml_beyond_the_subset_is_refused(document: str) -> None:
    with pytest.raises(InputError, match=r"a\.yml"):
        parse_yaml(document.encode(), "a.yml")


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab:-# '\"[],\n1.e", max_size=40))
def test_yaml_noise(document: str) -> None:
    try:
        value = parse_yaml(document.encode(), "a.yml")
    except InputError:
        return
    assert isinstance(value, dict | list)


def test_yaml_of_wrong_bytes() -> None:
    for data in (b"\xff", b"a: 1\n" * (1 << 18)):
        with pytest.raises(InputError, match=r"a\.yml"):
            parse_yaml(data, "a.yml")
