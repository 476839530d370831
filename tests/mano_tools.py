"""MANO-shaped files for tests: random constants on a tube, pickled the ways MANO's files are pickled.

Nothing of MANO is in here. The files name chumpy, SciPy and the modules of Python 2 as the published ones do;
the stand-in modules exist only while a file is written.
"""

from __future__ import annotations

import pickle
import struct
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import scipy.sparse

PARENTS = [-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14]


def tube_faces() -> np.ndarray:
    """1538 faces on 778 vertices with one hole of 16 edges: rings of 16, a cap, nine faces split in three."""
    faces = []
    for ring in range(47):
        for k in range(16):
            a, b = ring * 16 + k, ring * 16 + (k + 1) % 16
            faces += [(a, b, b + 16), (a, b + 16, a + 16)]
    faces += [(47 * 16 + k, 47 * 16 + (k + 1) % 16, 768) for k in range(16)]
    for vertex in range(769, 778):
        a, b, c = faces.pop(0)
        faces += [(a, b, vertex), (b, c, vertex), (c, a, vertex)]
    return np.array(faces)


def mano_constants(seed: int = 0) -> dict[str, np.ndarray]:
    """The dense arrays, under the names of MANO's files, in float64: a right hand."""
    rng = np.random.default_rng(seed)
    angle = np.arange(768) % 16 * (2 * np.pi / 16)
    along = np.arange(768) // 16 * 0.004
    tube = np.stack([along, 0.03 * np.cos(angle), 0.02 * np.sin(angle)], axis=1)
    vertices = np.concatenate([tube, [[0.19, 0, 0]], rng.normal(0, 0.02, (9, 3))])
    weights = rng.random((778, 16)) * (rng.random((778, 16)) < 0.3) + 1e-3
    regressor = rng.random((16, 778)) * (rng.random((16, 778)) < 0.05)
    basis, _ = np.linalg.qr(rng.normal(size=(45, 45)))
    tree = np.array([[2**32 - 1, *PARENTS[1:]], range(16)], np.uint32)
    return {
        "v_template": vertices,
        "shapedirs": rng.normal(0, 0.003, (778, 3, 10)),
        "posedirs": rng.normal(0, 0.002, (778, 3, 135)),
        "J_regressor": regressor / regressor.sum(axis=1, keepdims=True),
        "weights": weights / weights.sum(axis=1, keepdims=True),
        "hands_components": basis,
        "hands_mean": rng.normal(0, 0.2, 45),
        "kintree_table": tree,
        "f": tube_faces().astype(np.uint32),
        "J": rng.normal(size=(16, 3)),
    }


def left_of(right: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The left hand of the same person as MANO has it: mirrored, but for the shape directions' sign of x."""
    flip = np.array([-1.0, 1.0, 1.0])
    fingers = np.tile([1.0, -1.0, -1.0], 15)
    return right | {
        "v_template": right["v_template"] * flip,
        "shapedirs": right["shapedirs"] * np.array([1.0, 1.0, 1.0])[:, None],
        "posedirs": right["posedirs"] * flip[:, None] * np.tile(np.outer(flip, flip).ravel(), 15),
        "hands_components": right["hands_components"] * fingers,
        "hands_mean": right["hands_mean"] * fingers,
        "f": right["f"][:, ::-1],
    }


@contextmanager
def stand_in_chumpy() -> Iterator[tuple[type, type]]:
    """Modules named chumpy.ch and chumpy.reordering with classes that pickle like chumpy's."""

    class Ch:
        def __init__(self, **state: Any) -> None:
            self.__dict__.update(state)

    class Select(Ch):
        pass

    saved = {name: sys.modules.get(name) for name in ("chumpy", "chumpy.ch", "chumpy.reordering")}
    for name, kind, module in (("Ch", Ch, "chumpy.ch"), ("Select", Select, "chumpy.reordering")):
        kind.__module__, kind.__qualname__, kind.__name__ = module, name, name
        sys.modules[module] = types.ModuleType(module)
        setattr(sys.modules[module], name, kind)
    sys.modules["chumpy"] = types.ModuleType("chumpy")
    try:
        yield Ch, Select
    finally:
        for name, module in saved.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def mano_pickle(constants: dict[str, np.ndarray], protocol: int = 2) -> bytes:
    """As the published files: shapedirs a chumpy selection, the template a leaf, a sparse matrix."""
    content: dict[str, Any] = dict(constants)
    content["J_regressor"] = scipy.sparse.csc_matrix(constants["J_regressor"])
    content["bs_style"], content["bs_type"] = "lbs", "lrotmin"
    directions = constants["shapedirs"]
    with stand_in_chumpy() as (Ch, Select):
        more = np.concatenate([directions, np.ones((*directions.shape[:2], 3))], axis=2)
        kept = np.arange(more.size).reshape(more.shape)[:, :, : directions.shape[2]].ravel()
        leaf = Ch(x=more, _dirty_vars=set(), _itr=None)
        content["shapedirs"] = Select(a=leaf, idxs=kept, preferred_shape=directions.shape, _dirty_vars={"a"})
        content["v_template"] = Ch(x=constants["v_template"], _dirty_vars={"x"})
        return pickle.dumps(content, protocol)


# The same with the instructions that cPickle of Python 2 wrote, by hand: byte strings, INST-free new objects.


def _string(value: bytes) -> bytes:
    return b"T" + struct.pack("<i", len(value)) + value


def _integer(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def python2_array(array: np.ndarray) -> bytes:
    array = np.ascontiguousarray(array)
    begin = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    dtype = b"cnumpy\ndtype\n(U\x02" + array.dtype.str[1:].encode() + b"K\x00K\x01tR"
    dtype += b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"(" + b"".join(_integer(n) for n in array.shape) + b"t"
    return begin + b"(K\x01" + shape + dtype + b"\x89" + _string(array.tobytes()) + b"tb"


def python2_pickle(constants: dict[str, np.ndarray]) -> bytes:
    sparse = scipy.sparse.csc_matrix(constants["J_regressor"])
    parts = {name: python2_array(array) for name, array in constants.items()}
    leaf = b"(ichumpy.ch\nCh\n}(U\x01x" + parts["v_template"] + b"ub"  # an old-style INST
    parts["v_template"] = leaf
    state = b"}(U\x06_shape(K\x10" + _integer(778) + b"t"
    for name in ("data", "indices", "indptr"):
        state += b"U" + bytes([len(name)]) + name.encode() + python2_array(getattr(sparse, name))
    # copy_reg._reconstructor, and the class made once more the short way
    new = b"ccopy_reg\n_reconstructor\n(cscipy.sparse.csc\ncsc_matrix\nc__builtin__\nobject\nNtR"
    parts["J_regressor"] = new + state + b"ub"
    items = b"".join(_string(name.encode()) + part for name, part in parts.items())
    return b"\x80\x02}q\x01(" + items + b"u."
