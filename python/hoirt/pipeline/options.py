"""The arguments of refine(): checked once, and spread over a list of pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import InputError
from hoirt.pipeline.result import StepInfo

if TYPE_CHECKING:
    from PIL.Image import Image

    from hoirt._core import CancelToken
    from hoirt.packs import Settings as PackSettings


class SupportsDLPack(Protocol):
    """Any tensor on the CPU that speaks DLPack."""

    def __dlpack__(self, *, stream: Any = ...) -> Any:
        """The capsule."""


ImageLike: TypeAlias = "str | os.PathLike[str] | Image | NDArray[Any] | SupportsDLPack"


class RefineOptions(TypedDict, total=False):
    """Keyword arguments of `Refiner.__call__` and `hoirt.refine`, which documents them."""

    prompt: str | Sequence[str]
    negative_prompt: str | Sequence[str] | None
    hands: Any
    mask: Any
    depth: Any
    strength: float | str
    steps: int | None
    guidance: float | None
    scheduler: str | Mapping[str, Any] | None
    seed: int | Sequence[int]
    noise: Any
    region: str
    on_step: Callable[[StepInfo], bool | None] | None
    cancel: CancelToken | None


@dataclass(frozen=True)
class Settings:
    """What all pictures of one call share."""

    strength: float
    steps: int
    guidance: float
    scheduler: str | Mapping[str, Any] | None
    region: Literal["crop", "frame"]
    on_step: Callable[[StepInfo], bool | None] | None
    cancel: CancelToken | None


@dataclass(frozen=True)
class Item:
    """What belongs to one picture; not yet checked, so that a bad one fails alone."""

    index: int
    image: Any
    prompt: Any
    negative_prompt: Any
    hands: Any
    mask: Any
    depth: Any
    seed: Any
    noise: Any


def check_settings(
    defaults: PackSettings,
    *,
    strength: float | str,
    steps: int | None,
    guidance: float | None,
    scheduler: str | Mapping[str, Any] | None,
    region: str,
    on_step: Callable[[StepInfo], bool | None] | None,
    cancel: CancelToken | None,
) -> Settings:
    """Settings from the arguments and the pack's `defaults`; InputError names the argument that is wrong."""
    from hoirt.schedules.options import integer, number

    if strength == "adaptive":
        raise InputError('strength="adaptive" comes with a later version; use a number from 0 to 1.5')
    if region not in ("crop", "frame"):
        raise InputError(f'region must be "crop" or "frame", not {region!r}')
    if scheduler is not None and not isinstance(scheduler, str | Mapping):
        raise InputError(f"scheduler must be a name or a config, not a {type(scheduler).__name__}")
    if on_step is not None and not callable(on_step):
        raise InputError(f"on_step must be callable, not a {type(on_step).__name__}")
    if cancel is not None and not hasattr(cancel, "cancelled"):
        raise InputError(f"cancel must be a hoirt.CancelToken, not a {type(cancel).__name__}")
    return Settings(
        strength=number("strength", strength, 0.0, 1.5),
        steps=integer("steps", defaults.steps if steps is None else steps, 1, 1000),
        guidance=number("guidance", defaults.guidance if guidance is None else guidance, 0.0, 100.0),
        scheduler=scheduler,
        region="crop" if region == "crop" else "frame",
        on_step=on_step,
        cancel=cancel,
    )


def spread(images: Sequence[Any], **per_image: Any) -> list[Item]:
    """One Item per picture: a list or tuple gives an entry to each, anything else is given to all."""
    for name, value in per_image.items():
        if isinstance(value, list | tuple) and len(value) != len(images):
            raise InputError(f"{name} is a list of {len(value)} but there are {len(images)} images")
    return [
        Item(
            index, image, **{k: v[index] if isinstance(v, list | tuple) else v for k, v in per_image.items()}
        )
        for index, image in enumerate(images)
    ]


def check_text(value: Any, name: str) -> str:
    """A prompt."""
    if not isinstance(value, str):
        raise InputError(
            f"{name} must be a string, or for a list of images a list of strings, not {value!r:.80}"
        )
    return value


def check_seed(value: Any) -> int:
    """A seed in 0 .. 2**64 - 1."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value < 2**64:
        raise InputError(f"seed must be a whole number from 0 to 2**64 - 1, not {value!r:.80}")
    return int(value)


def hand_seed(seed: int, hand: int) -> int:
    """The seed of hand `hand` of a picture: its index is added to the upper half of the Philox key."""
    return (seed + (hand << 32)) % 2**64
