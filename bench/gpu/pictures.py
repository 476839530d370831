"""Whole repairs by the bundled pack: pictures beside the CPU's, time, and the memory that is given back."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.gpu.session import Session

if TYPE_CHECKING:
    from hoirt import Refiner, Result

NEAR = 2  # of 255
SHARE = 0.999  # of the pixels that must be that near
SEED = 7
NEEDED = (
    "onnx",
    "onnxruntime",
    "tokenizers",
    "PIL",
)  # to read the pack's networks, and to run them on the CPU


@dataclass(frozen=True)
class Difference:
    """Of two runs over the same pictures: shares of pixels whose colours are near, and the largest gap."""

    near: float
    near_in_mask: float
    largest: int

    def __str__(self) -> str:
        return (
            f"{100 * self.near:.3f} % of the pixels within {NEAR}/255, {100 * self.near_in_mask:.2f} % of "
            f"those that were painted, largest difference {self.largest}"
        )


def run(session: Session) -> None:
    missing = [package for package in NEEDED if importlib.util.find_spec(package) is None]
    if missing or not session.on_gpu:
        reason = f"needs {', '.join(missing)}" if missing else "they would be compared with themselves"
        session.add("pictures", "all", note=f"not measured: {reason}")
        return
    with session.attempt("pictures", "compiling"):
        _compile(session)
    with session.attempt("pictures", "hoirt GPU"):
        _measure(session)


def _compile(session: Session) -> None:
    from export.aoti.pack import Options, compile_pack

    made = compile_pack("handrefiner-tiny", Options(device=session.device, precision="fp32"))
    told = ", ".join(f"{one.role} {one.seconds:.0f} s" for one in made if one.seconds)
    session.add("pictures", "compiling", note=told or "is there already")


def _measure(session: Session) -> None:
    import torch
    from hoirt import Refiner

    def used() -> int:
        torch.cuda.synchronize()
        free, total = torch.cuda.mem_get_info()
        return total - free

    pictures = demo_pictures()
    ours = Refiner(device=session.device, backend="aoti", precision="fp32")
    reference = Refiner(device="cpu", backend="onnxruntime", precision="fp32")
    found = difference(repaired(ours, pictures), repaired(reference, pictures))
    wrong = "" if found.near >= SHARE else "WRONG: "
    session.add(
        "pictures", "hoirt GPU", session.measure(lambda: repaired(ours, pictures), 5), note=f"{wrong}{found}"
    )
    session.add("pictures", "hoirt CPU", session.measure(lambda: repaired(reference, pictures), 2))
    session.ratios("pictures", "hoirt GPU")
    held = []
    for _ in range(2):  # what libraries keep for themselves is kept the first time already
        repaired(ours, pictures)
        held.append(used())
        ours.unload()
        held.append(used())
    mib = [round(size / 2**20) for size in held]
    kept = "" if mib[3] <= mib[1] else "WRONG: "
    note = f"{kept}MiB in use: {mib[0]} with a Refiner, {mib[1]} after unload(); once more {mib[2]}, {mib[3]}"
    session.add("pictures", "memory", note=note)


def demo_pictures() -> list[Any]:
    """Those of the package, uint8 (H, W, 3)."""
    from hoirt.cli.demo import PICTURES
    from hoirt.imaging import load

    return [np.asarray(load(path).original.convert("RGB")) for path in sorted(PICTURES.glob("*.png"))]


def repaired(refiner: Refiner, pictures: Sequence[Any]) -> list[Result]:
    """One after the other, as a caller who waits for each."""
    return [refiner(picture, seed=SEED) for picture in pictures]


def difference(ours: Sequence[Result], reference: Sequence[Result]) -> Difference:
    """Over all pixels of all pictures, which must have been repaired on both sides."""
    gaps, masks = [], []
    for mine, theirs in zip(ours, reference, strict=True):
        if mine.status != "refined" or theirs.status != "refined" or theirs.mask is None:
            raise ValueError(f"a picture is {mine.status!r} on the device and {theirs.status!r} on the CPU")
        gap = np.abs(np.asarray(mine.image, np.int16) - np.asarray(theirs.image, np.int16)).max(axis=-1)
        gaps.append(gap.ravel())
        masks.append(theirs.mask.ravel() > 0)
    gap, mask = np.concatenate(gaps), np.concatenate(masks)
    return Difference(float((gap <= NEAR).mean()), float((gap[mask] <= NEAR).mean()), int(gap.max()))
