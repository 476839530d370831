"""The kernels of _core_cuda on raw addresses: guided step, noise, paste; at any size and alignment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from device_tools import back, device, shifted
from hoirt import InputError, _core
from numpy.typing import NDArray

Floats = NDArray[np.float32]
ROW = {
    "guidance": 2.5,
    "A": 1.25,
    "B": -0.5,
    "C": 0.75,
    "D": 0.5,
    "E": -0.25,
    "F": 0.125,
    "G": 0.875,
    "H": 0.375,
}
NAMES = {
    "state": "x",
    "unconditional": "u",
    "conditional": "c",
    "previous_clean": "e",
    "mask": "m",
    "known": "z",
    "noise": "n",
    "known_noise": "k",
}


def there(array: NDArray[Any], shift: int = 0) -> Any:
    return shifted("cuda:0", array, shift)


def stream() -> int:
    """On which all of these come and go."""
    return int(device("cuda:0").stream())


def floats(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def formula(clip: float, given: dict[str, Floats]) -> tuple[Floats, Floats]:
    """x' and x0 as StepTable says, in float64."""
    x, u, c, e, m, z, n, k = (given[name].astype(np.float64) for name in "xucemznk")
    out = u + ROW["guidance"] * (c - u)
    x0 = ROW["A"] * x + ROW["B"] * out
    x0 = np.clip(x0, -clip, clip) if clip > 0 else x0
    following = ROW["C"] * x + ROW["D"] * x0 + ROW["E"] * e + ROW["F"] * n
    following = m * following + (1 - m) * (ROW["G"] * z + ROW["H"] * k)
    return following.astype(np.float32), x0.astype(np.float32)


@pytest.mark.parametrize("clip", [0.0, 0.8])
@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("size", [1, 64, 1003, 70_000])
@pytest.mark.parametrize("drawn", [False, True])
def test_guided_step(cuda: Any, size: int, shift: int, clip: float, drawn: bool) -> None:
    given = {letter: floats(3, size, seed=ord(letter)) for letter in NAMES.values()}
    given["m"] = np.abs(given["m"]) % 1
    seeds = np.array([1, 2**63, 3], np.uint64)
    if drawn:
        row = 4
        for letter, number in (("n", 1 + 2 * row), ("k", 2 + 2 * row)):
            given[letter] = np.stack([_core.philox_normal(int(seed), number, (size,)) for seed in seeds])
    kept = {name: there(given[letter], shift) for name, letter in NAMES.items()}
    step = cuda.GuidedStep(items=3, item_size=size)
    for name, value in {**ROW, "clip": clip}.items():
        setattr(step, name, value)
    for name, tensor in kept.items():
        if not (drawn and name.endswith("noise")):
            setattr(step, name, tensor.address)
    if drawn:
        step.row, kept["seeds"] = 4, there(seeds.view(np.int64))
        step.seeds = kept["seeds"].address
    results = {name: there(floats(3, size), shift) for name in ("next", "copy", "clean")}
    for name, tensor in results.items():
        setattr(step, name, tensor.address)
    step.launch(stream=stream())
    following, x0 = formula(clip, given)
    np.testing.assert_array_equal(back(results["next"]), following)
    np.testing.assert_array_equal(back(results["copy"]), following)
    np.testing.assert_array_equal(back(results["clean"]), x0)


def rounded(array: Floats, dtype: str) -> Floats:
    """To the nearest numbers of that type, as float32."""
    return torch.from_numpy(array).to(getattr(torch, dtype)).float().numpy()


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("size", [1, 1003, 70_000])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_guided_step_in_half_precision(cuda: Any, dtype: str, size: int, shift: int) -> None:
    """Numbers of every size: NaN, infinities and what is below the normal ones too."""

    def bits(array: Floats) -> NDArray[np.uint8]:
        half = torch.from_numpy(np.concatenate([np.zeros(shift, np.float32), array.ravel()]))
        return half.to(getattr(torch, dtype)).view(torch.uint8).numpy()

    given = {letter: rounded(floats(3, size, seed=ord(letter)), dtype) for letter in "xuce"}
    given["x"] = rounded(given["x"] * np.float32(10) ** np.arange(-9, 6).repeat(size // 5 + 1)[:size], dtype)
    given["x"][0, -1], given["u"][1, -1] = np.inf, np.nan
    nothing = np.zeros((3, size), np.float32)
    kept = {name: there(bits(given[letter])) for name, letter in NAMES.items() if letter in given}
    step = cuda.GuidedStep(items=3, item_size=size, dtype=dtype)
    for name in "guidance", "A", "B", "C", "D", "E":
        setattr(step, name, ROW[name])
    results = {name: there(bits(nothing)) for name in ("next", "clean")}
    for name, tensor in {**kept, **results}.items():
        setattr(step, name, tensor.address + 2 * shift)
    step.launch(stream=stream())
    with np.errstate(all="ignore"):
        wanted = formula(0.0, {**given, "m": nothing + 1, "z": nothing, "n": nothing, "k": nothing})
    for name, expected in zip(results, wanted, strict=True):
        found = torch.from_numpy(back(results[name])).view(getattr(torch, dtype))[shift:].float().numpy()
        np.testing.assert_array_equal(found.reshape(3, size), rounded(expected, dtype))


def test_wrong_guided_steps_are_refused(cuda: Any) -> None:
    with pytest.raises(InputError, match="null"):
        cuda.GuidedStep(items=1, item_size=4).launch()
    for options, words in [
        ({"mask": 16}, "known is null"),
        ({"unconditional": 16}, "conditional is null"),
        ({"F": 0.5}, "noise or seeds"),
        ({"mask": 16, "known": 16, "H": 0.5}, "known_noise or seeds"),
    ]:
        step = cuda.GuidedStep(items=1, item_size=4)
        step.next = 16
        for name, value in options.items():
            setattr(step, name, value)
        with pytest.raises(InputError, match=words):
            step.launch()
    with pytest.raises(InputError, match="negative"):
        negative = cuda.GuidedStep(items=-1, item_size=4)
        negative.next = 16
        negative.launch()
    with pytest.raises(InputError, match="dtype must be float32, float16 or bfloat16, not int32"):
        cuda.GuidedStep(items=1, item_size=4, dtype="int32")
    with pytest.raises(InputError, match="row must be"):
        cuda.GuidedStep(items=1, item_size=4).row = -2


@pytest.mark.parametrize("size", [0, 1, 7, 4096, 100_003])
def test_philox_normal(cuda: Any, size: int) -> None:
    out = there(np.zeros(size, np.float32))
    cuda.philox_normal(out.address, size=size, seed=2**63 + 5, stream_number=9, stream=stream())
    np.testing.assert_array_equal(back(out), _core.philox_normal(2**63 + 5, 9, (size,)))


@pytest.mark.parametrize("shift", [0, 3])
@pytest.mark.parametrize(("top", "left"), [(0, 0), (-5, 11), (60, 70), (200, 0)])
def test_paste(cuda: Any, shift: int, top: int, left: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (83, 97, 3)).astype(np.uint8)
    patch, alpha = floats(31, 45, 3) * 90 + 120, np.abs(floats(31, 45)) % 1
    on_device, values, opacity = there(picture, shift), there(patch, shift), there(alpha, shift)
    addresses = (on_device.address, values.address, opacity.address)
    options = {"size": (83, 97), "patch_size": (31, 45), "top": top, "left": left}
    cuda.paste(*addresses, **options, stream=stream())
    np.testing.assert_array_equal(back(on_device), _core.paste(picture, patch, alpha, top, left))


def test_wrong_pastes_and_noise_are_refused(cuda: Any) -> None:
    for size, top, words in [
        ((-1, 4), 0, "sizes"),
        ((4, 2**31), 0, "sizes"),
        ((4, 4), 2**31, "top and left"),
    ]:
        with pytest.raises(InputError, match=words):
            cuda.paste(16, 16, 16, size=size, patch_size=(1, 1), top=top, left=0)
    with pytest.raises(InputError, match="addresses"):
        cuda.paste(16, 0, 16, size=(1, 1), patch_size=(1, 1), top=0, left=0)
    for size, address in ((-1, 16), (4, 0)):
        with pytest.raises(InputError, match="address of"):
            cuda.philox_normal(address, size=size, seed=1, stream_number=0)
