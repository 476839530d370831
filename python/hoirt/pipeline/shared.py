"""refine() and detect(): the calls on a Refiner of the bundled pack that the whole process shares."""

from __future__ import annotations

import threading
from typing import Any, Literal, Unpack, overload

from hoirt.hands.hand import Hand
from hoirt.pipeline.options import ImageLike, RefineOptions
from hoirt.pipeline.refiner import Refiner
from hoirt.pipeline.result import Result

_lock = threading.Lock()
_refiner: Refiner | None = None


def shared_refiner() -> Refiner:
    """The Refiner of the bundled pack, opened at the first call."""
    global _refiner
    with _lock:
        if _refiner is None:
            _refiner = Refiner()
        return _refiner


@overload
def refine(
    image: list[ImageLike] | tuple[ImageLike, ...], **options: Unpack[RefineOptions]
) -> list[Result]: ...


@overload
def refine(image: ImageLike, **options: Unpack[RefineOptions]) -> Result: ...


def refine(image: Any, **options: Unpack[RefineOptions]) -> Any:
    """Repairs the hands of a picture, or of each in a list, with the bundled pack.

    Takes what `Refiner.__call__` takes: prompt, negative_prompt, hands, mask, depth, strength, steps,
    guidance, scheduler, seed, noise, region, on_step, cancel. The Refiner is opened once and kept.
    """
    return shared_refiner()(image, **options)


def detect(
    image: ImageLike, *, threshold: float | None = None, tiles: Literal["auto"] | bool = "auto"
) -> list[Hand]:
    """The hands of a picture with their meshes, best first, by the bundled pack; see `Refiner.detect`."""
    return shared_refiner().detect(image, threshold=threshold, tiles=tiles)
