"""Optimisation profiles: which shapes an engine takes, and for which it is fastest."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hoirt.errors import BackendError, HoirtError, InputError

Range = tuple[int, int, int]  # the least, the one to optimise for, the largest
Shapes = Mapping[str, tuple[int | str, ...]]  # by input; a name is an extent that the caller chooses
MAX_BATCH = 8


@dataclass(frozen=True)
class Profile:
    """Ranges of the extents that a pack leaves open.

    batch: items, both halves of guidance counted. pixels: height and width of a picture. factor: pixels per
    cell of the latents. steps: rows of the time network.
    """

    batch: Range = (1, 2, MAX_BATCH)
    pixels: Range = (256, 512, 1024)
    factor: int = 8
    steps: Range = (1, 20, 1000)

    def __post_init__(self) -> None:
        """Raises InputError for ranges that are none."""
        for name in ("batch", "pixels", "steps"):
            low, best, high = getattr(self, name)
            if not 1 <= low <= best <= high:
                raise InputError(f"the profile's {name} must be 1 <= least <= best <= largest")
        if any(extent % self.factor for extent in self.pixels):
            raise InputError(f"the profile's pixels {self.pixels} must be multiples of {self.factor}")

    def exact(self) -> Profile:
        """For the best shape alone, in which the kernels need not care for any other."""
        same = {name: (getattr(self, name)[1],) * 3 for name in ("batch", "pixels", "steps")}
        return Profile(factor=self.factor, **same)

    def extent(self, name: str) -> Range:
        """The range of an extent by name: N, S, H and W in pixels, h and w in cells, h2 ... in larger cells.

        Raises BackendError for another name.
        """
        if name in ("N", "S"):
            return self.batch if name == "N" else self.steps
        found = re.fullmatch(r"([HWhw])(\d*)", name)
        if found is None or (found[2] and found[1] in "HW"):
            raise BackendError(f"the extent {name!r} is not known; packs have N, S, H, W, h, w, h2 ...")
        if found[1] in "HW":
            return self.pixels
        low, best, high = (-(-extent // self.factor // int(found[2] or 1)) for extent in self.pixels)
        return low, best, high

    def shapes(self, name: str, shape: Sequence[int | str]) -> tuple[tuple[int, ...], ...]:
        """Least, best and largest shape of the input `name`."""
        ranges = [(extent,) * 3 if isinstance(extent, int) else self.extent(extent) for extent in shape]
        return tuple(tuple(extents) for extents in zip(*ranges, strict=True)) if ranges else ((), (), ())

    def key(self) -> dict[str, Any]:
        """For the key of the cache."""
        return asdict(self)


def default_profiles(path: Path) -> tuple[Profile, ...]:
    """Of a network: its pack's picture size exactly, then sizes around it; else those of SD1.5."""
    from hoirt.packs.manifest import MANIFEST
    from hoirt.packs.verify import read_manifest

    around = Profile()
    if (path.parent / MANIFEST).is_file():
        try:
            settings = read_manifest(path.parent).settings
        except HoirtError:
            return around.exact(), around  # the pack's own reader says what is wrong with it
        step, crop = settings.size_multiple, settings.crop
        least = max(step, crop // 2 // step * step)
        around = Profile(pixels=(least, crop, 2 * crop), factor=settings.vae.factor)
    return around.exact(), around


def open_shapes(
    path: Path, fixed: Mapping[str, Sequence[int]] | None = None
) -> dict[str, tuple[int | str, ...]]:
    """The inputs' shapes in an ONNX file, those in `fixed` replaced.

    Raises InputError for a fixed shape that does not fit, BackendError for an extent without a name.
    """
    from hoirt.backends.tensorrt.precision import load_graph

    graph = load_graph(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    found: dict[str, tuple[int | str, ...]] = {}
    for port in graph.input:
        if port.name in weights:
            continue
        extents = [dim.dim_param or dim.dim_value for dim in port.type.tensor_type.shape.dim]
        if any(extent == 0 for extent in extents):
            raise BackendError(f"an extent of the input {port.name} has neither a value nor a name")
        found[port.name] = tuple(extents)
    for name, shape in (fixed or {}).items():
        known = found.get(name, ())
        if name not in found or len(shape) != len(known):
            raise InputError(f"shapes: {name} {list(shape)} is no input; there are {found}")
        if any(isinstance(have, int) and have != want for have, want in zip(known, shape, strict=True)):
            raise InputError(f"shapes: {name} is {list(known)}, it cannot be {list(shape)}")
        found[name] = tuple(int(extent) for extent in shape)
    return found


def choose(
    profiles: Sequence[Mapping[str, Sequence[Sequence[int]]]], shapes: Mapping[str, Sequence[int]]
) -> int:
    """The first profile that takes all `shapes`; profiles are {input: (least, best, largest)}.

    Raises InputError, saying what the profiles take.
    """
    for index, profile in enumerate(profiles):
        if all(_fits(shapes[name], *profile[name]) for name in profile):
            return index
    wrong = {
        name: list(shape)
        for name, shape in shapes.items()
        if not any(_fits(shape, *profile[name]) for profile in profiles)
    }
    ranges = "; or ".join(
        ", ".join(f"{name} {list(p[name][0])} to {list(p[name][2])}" for name in (wrong or shapes))
        for p in profiles
    )
    raise InputError(f"the engine was not built for {wrong or dict(shapes)}; it takes {ranges}")


def _fits(shape: Sequence[int], least: Sequence[int], _best: Sequence[int], largest: Sequence[int]) -> bool:
    return len(shape) == len(least) and all(
        low <= extent <= high for low, extent, high in zip(least, shape, largest, strict=True)
    )
