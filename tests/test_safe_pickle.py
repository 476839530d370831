"""The restricted pickle reader on data of every protocol: what plain pickle and torch write comes back."""

from __future__ import annotations

import collections
import contextlib
import math
import pickle
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from hoirt import InputError
from hoirt.safe_pickle import Inert, Limits, loads
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
KEYS = st.text() | st.integers(-(2**60) + 1, 2**60 - 1) | st.binary()
SCALARS = st.none() | st.booleans() | st.integers(-(2**900), 2**900) | st.floats() | st.text() | st.binary()
DATA = st.recursive(
    SCALARS | st.sets(KEYS) | st.frozensets(KEYS),
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner) | st.tuples(inner, inner, inner, inner),
    max_leaves=20,
)
NUMBERS = st.sampled_from(
    [np.bool_, np.int8, np.uint16, np.int32, np.int64, np.float16, np.float32, np.float64]
)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b


@settings(max_examples=150, deadline=None)
@given(DATA, st.sampled_from(PROTOCOLS))
def test_plain_data_comes_back(value: Any, protocol: int) -> None:
    assert same(loads(pickle.dumps(value, protocol)), value)


@settings(max_examples=80, deadline=None)
@given(st.data(), NUMBERS, st.sampled_from(PROTOCOLS), st.booleans(), st.booleans())
def test_arrays_come_back(data: Any, dtype: type, protocol: int, fortran: bool, big: bool) -> None:
    array = data.draw(arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0)))
    array = np.asfortranarray(array) if fortran else array
    array = array.astype(array.dtype.newbyteorder(">")) if big else array
    found = loads(pickle.dumps(array, protocol))
    assert found.shape == array.shape and found.dtype.newbyteorder("=") == np.dtype(dtype)
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_records_of_numpy_scipy_and_collections(protocol: int) -> None:
    dense = np.arange(12.0).reshape(3, 4) * (np.arange(12).reshape(3, 4) % 3 == 0)
    value = {
        "scalar": np.float32(2.5),
        "text": np.array(["ab", "c"]),
        "bytes": np.array([b"ab", b"c"]),
        "objects": np.array([1, "two", None, {"three": np.arange(3)}], object),
        "ordered": collections.OrderedDict(b=1, a=2),
        "sparse": scipy.sparse.csc_matrix(dense),
        "shared": [dense, dense],
    }
    found = loads(pickle.dumps(value, protocol))
    assert found["scalar"] == np.float32(2.5) and found["scalar"].dtype == np.float32
    assert found["text"].tolist() == ["ab", "c"] and found["bytes"].tolist() == [b"ab", b"c"]
    assert found["objects"][1] == "two" and found["objects"][3]["three"].tolist() == [0, 1, 2]
    assert found["ordered"] == {"b": 1, "a": 2} and list(found["ordered"]) == ["b", "a"]
    assert isinstance(found["sparse"], Inert) and found["sparse"].kind.endswith("csc_matrix")
    assert found["sparse"].state["data"].tolist() == scipy.sparse.csc_matrix(dense).data.tolist()
    assert found["shared"][0] is found["shared"][1]


@pytest.mark.parametrize("protocol", range(2, 6))
def test_torch_tensors_come_back_as_arrays(protocol: int) -> None:
    base = torch.arange(24.0).reshape(2, 3, 4)
    tensors = [base, base[1, :, ::2], base[0].T, torch.zeros(0, 4), torch.tensor(7, dtype=torch.int64),
               torch.tensor([True, False]), torch.ones(3).half(), torch.ones(2).double()]  # fmt: skip
    tensors.append(torch.nn.Parameter(torch.ones(2)).detach())
    for tensor, found in zip(tensors, loads(pickle.dumps(tensors, protocol)), strict=True):
        assert isinstance(found, np.ndarray)
        assert found.dtype == tensor.numpy().dtype
        np.testing.assert_array_equal(found, tensor.numpy())


def test_limits_are_kept() -> None:
    data = pickle.dumps(list(range(1000)))
    assert len(loads(data, limits=Limits(size=len(data)))) == 1000
    for limits, message in (
        (Limits(size=len(data) - 1), "bytes"),
        (Limits(instructions=500), "500 instructions"),
    ):
        with pytest.raises(InputError, match=message):
            loads(data, limits=limits)
    nested: Any = []
    for _ in range(40):
        nested = [nested]
    loads(pickle.dumps(nested), limits=Limits(depth=41))
    with pytest.raises(InputError, match="nested more than 40"):
        loads(pickle.dumps(nested), limits=Limits(depth=40))


def test_every_truncation_is_refused() -> None:
    value = {
        "a": np.arange(5),
        "b": [1, 2.5, "text", b"bytes", None],
        "c": scipy.sparse.csc_matrix(np.eye(3)),
    }
    for protocol in PROTOCOLS:
        data = pickle.dumps(value, protocol)
        for length in range(len(data)):
            with pytest.raises(InputError):
                loads(data[:length], "cut.pkl")
        with pytest.raises(InputError, match=r"cut\.pkl: 1 bytes follow"):
            loads(data + b"\0", "cut.pkl")


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_refused_or_read(data: bytes) -> None:
    with contextlib.suppress(InputError):
        loads(data)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 5), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_flipped_bytes_are_refused_or_read(protocol: int, changes: list[tuple[float, int]]) -> None:
    value = {
        "a": np.arange(5),
        "o": np.array([{}], object),
        "s": scipy.sparse.csc_matrix(np.eye(3)),
        "t": (1, {2}),
    }
    data = bytearray(pickle.dumps(value, protocol))
    for place, byte in changes:
        data[int(place * (len(data) - 1))] = byte
    with contextlib.suppress(InputError):
        loads(bytes(data))
