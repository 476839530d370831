"""Oracles for the native loop, in NumPy float64 from the documented formulas, and small networks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace

import numpy as np
from hoirt import _core
from numpy.typing import NDArray

Array = NDArray[np.float64]
COLUMNS = ("timestep", "guidance", "control", "A", "B", "C", "D", "E", "F", "G", "H", "clip")
INITIAL_KNOWN = 0xFFFFFFFE


def table(steps: int, **given: object) -> SimpleNamespace:
    """A step table with every column; columns left out do nothing, numbers are repeated over the rows."""
    columns: dict[str, object] = {name: np.zeros(steps) for name in COLUMNS}
    columns |= {"guidance": np.ones(steps), "control": np.ones(steps), "known": np.zeros(steps, bool)}
    columns["reuse"] = np.zeros(steps, bool)
    columns |= {"init_signal": 0.0, "init_noise": 1.0, "init_known": None}
    for name, value in given.items():
        scalar = name.startswith("init_")
        columns[name] = value if scalar else np.broadcast_to(np.asarray(value), (steps,)).copy()
    return SimpleNamespace(**columns)


def network(
    predict: Callable[[Array, Array, Array], Array], conditions: tuple[str, ...] = ("context",)
) -> _core.PythonNetwork:
    """A network that computes prediction = predict(sample, timestep, condition + control) in float64."""

    def run(inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        condition = inputs["control_scale"].astype(np.float64)
        for name in conditions:
            condition = condition + inputs[name]
        out = predict(inputs["sample"].astype(np.float64), inputs["timestep"].astype(np.float64), condition)
        return {"prediction": out.astype(np.float32)}

    ports = [
        _core.Port("sample", [-1, -1, -1, -1]),
        _core.Port("timestep", [-1]),
        _core.Port("control_scale", [-1]),
    ]
    ports += [_core.Port(name, [-1]) for name in conditions]
    return _core.PythonNetwork(ports, [_core.Port("prediction", [-1, -1, -1, -1])], run)


def wave(x: Array, t: Array, condition: Array) -> Array:
    """A smooth network: bounded, nonlinear, different for every timestep and condition."""
    shift = (t / 1000 + condition)[:, None, None, None]
    return np.tanh(0.7 * x + np.roll(x, 1, axis=-1) * 0.2 - shift) + 0.1 * shift


def philox_words(counter: NDArray[np.uint64], key: tuple[int, int]) -> NDArray[np.uint64]:
    """Philox 4x32-10 on counters (blocks, 4) of 32-bit words held in uint64."""
    low = np.uint64(0xFFFFFFFF)
    c0, c1, c2, c3 = (counter[:, i].copy() for i in range(4))
    k0, k1 = key
    for _ in range(10):
        a, b = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1 = (b >> np.uint64(32)) ^ c1 ^ np.uint64(k0), b & low
        c2, c3 = (a >> np.uint64(32)) ^ c3 ^ np.uint64(k1), a & low
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1)


def philox_normals(seed: int, stream: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The documented noise: element 4 b + k of an item comes from word k of block b."""
    size = int(np.prod(shape))
    block = np.arange((size + 3) // 4, dtype=np.uint64)
    counter = np.zeros((len(block), 4), np.uint64)
    counter[:, 0] = block & np.uint64(0xFFFFFFFF)
    counter[:, 1] = block >> np.uint64(32)
    counter[:, 2] = stream
    u = (philox_words(counter, (seed & 0xFFFFFFFF, seed >> 32)).astype(np.float64) + 0.5) * 2.0**-32
    radius, angle = np.sqrt(-2 * np.log(u[:, 0::2])), 2 * np.pi * u[:, 1::2]
    normals = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return normals.reshape(-1)[:size].reshape(shape).astype(np.float32)


def batch_normals(seeds: list[int], stream: int, shape: tuple[int, ...]) -> Array:
    return np.stack([philox_normals(seed, stream, shape[1:]) for seed in seeds]).astype(np.float64)


def user_streams(rows: SimpleNamespace) -> list[int]:
    """The Philox streams that a table draws, in the order of the user's noise array."""
    streams = [0] + ([INITIAL_KNOWN] if rows.init_known is not None else [])
    for i in range(len(rows.timestep)):
        streams += ([1 + 2 * i] if rows.F[i] else []) + ([2 + 2 * i] if rows.known[i] else [])
    return streams


def reference(
    rows: SimpleNamespace,
    predict: Callable[[Array, Array, Array], Array],
    *,
    shape: tuple[int, ...],
    noise: Mapping[int, Array],
    condition: Array,
    uncondition: Array,
    control: Array,
    initial: Array | float = 0.0,
    known: Array | float = 0.0,
    mask: Array | float = 1.0,
) -> Array:
    """The step table's formulas, one after another, in float64; `noise` maps Philox streams to arrays."""
    x = rows.init_signal * np.asarray(initial) + rows.init_noise * noise[0]
    if rows.init_known is not None:
        signal, spread = rows.init_known
        x = mask * x + (1 - np.asarray(mask)) * (signal * np.asarray(known) + spread * noise[INITIAL_KNOWN])
    previous = np.zeros(shape)
    for i in range(len(rows.timestep)):
        t = np.full(shape[0], rows.timestep[i])
        out = predict(x, t, condition + rows.control[i] * control)
        if rows.guidance[i] != 1:
            plain = predict(x, t, uncondition + rows.control[i] * control)
            out = plain + rows.guidance[i] * (out - plain)
        clean = rows.A[i] * x + rows.B[i] * out
        if rows.clip[i]:
            clean = np.clip(clean, -rows.clip[i], rows.clip[i])
        x = rows.C[i] * x + rows.D[i] * clean + rows.E[i] * previous
        if rows.F[i]:
            x = x + rows.F[i] * noise[1 + 2 * i]
        if rows.known[i]:
            x = mask * x + (1 - np.asarray(mask)) * (
                rows.G[i] * np.asarray(known) + rows.H[i] * noise[2 + 2 * i]
            )
        previous = clean
    return np.asarray(x)
