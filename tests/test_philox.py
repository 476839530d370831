"""The documented noise, Philox 4x32-10 and Box-Muller, against published vectors and NumPy."""

import numpy as np
import pytest
from hoirt import InputError, _core
from hypothesis import given, settings
from hypothesis import strategies as st
from loop_tools import philox_normals, philox_words

# Published with the generator: Random123, kat_vectors, "philox4x32 10".
VECTORS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize(("counter", "key", "words"), VECTORS)
def test_known_answers(counter: str, key: str, words: str) -> None:
    numbers = [[int(word, 16) for word in text.split()] for text in (counter, key, words)]
    assert list(_core.philox4x32(numbers[0], numbers[1])) == numbers[2]
    ours = philox_words(np.array([numbers[0]], np.uint64), (numbers[1][0], numbers[1][1]))
    assert ours[0].tolist() == numbers[2]  # the oracle of the other tests, too


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**64 - 1), stream=st.integers(0, 2**32 - 1), size=st.integers(0, 70))
def test_normals(seed: int, stream: int, size: int) -> None:
    got = _core.philox_normal(seed, stream, (size,))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, philox_normals(seed, stream, (size,)), rtol=3e-7, atol=1e-7)


def test_shape_does_not_matter_and_streams_differ() -> None:
    flat = _core.philox_normal(3, 0, [60])
    np.testing.assert_array_equal(_core.philox_normal(3, 0, np.array([3, 4, 5])).ravel(), flat)
    np.testing.assert_array_equal(_core.philox_normal(3, 0, [7]), flat[:7])
    assert (
        np.abs(
            np.corrcoef([flat, _core.philox_normal(3, 1, [60]), _core.philox_normal(4, 0, [60])]) - np.eye(3)
        ).max()
        < 0.4
    )


def test_moments() -> None:
    x = _core.philox_normal(2024, 9, (400_000,)).astype(np.float64)
    # Five standard errors of mean, variance and fourth moment.
    assert abs(x.mean()) < 5 / np.sqrt(x.size)
    assert abs(x.var() - 1) < 5 * np.sqrt(2 / x.size)
    assert abs((x**4).mean() - 3) < 5 * np.sqrt(96 / x.size)
    assert abs((x[0::2] * x[1::2]).mean()) < 5 / np.sqrt(x.size / 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 0, (4,)), "seed must be an integer in 0"),
        ((2**64, 0, (4,)), "seed must be an integer"),
        ((1.5, 0, (4,)), "seed"),
        ((0, 2**32, (4,)), "stream must be an integer in 0..4294967295"),
        ((0, 0, (-1,)), "negative extent"),
        ((0, 0, (2**40, 2**40)), "too many elements"),
        ((0, 0, "abc"), "shape"),
        ((0, 0, 3), "shape"),
    ],
)
def test_wrong_arguments(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _core.philox_normal(*arguments)  # type: ignore[arg-type]


def test_wrong_words() -> None:
    with pytest.raises(InputError, match="counter must hold 4 words"):
        _core.philox4x32([0, 0, 0], [0, 0])
    with pytest.raises(InputError, match="key must hold 32-bit words"):
        _core.philox4x32([0, 0, 0, 0], [0, 2**32])
