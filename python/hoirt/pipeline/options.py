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
from hoirt.schedules.options import integer, number

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
    strength: float | str | Sequence[float | str]
    steps: int | None
    guidance: float | None
    scheduler: str | Mapping[str, Any] | None
    seed: int | Sequence[int]
    noise: Any
    region: str | None
    faithful: bool
    preview: float | None
    guidance_interval: tuple[float, float] | None
    reuse: str | None
    reuse_every: int
    colour_match: bool
    batch: int
    on_step: Callable[[StepInfo], bool | None] | None
    cancel: CancelToken | Sequence[CancelToken | None] | None


@dataclass(frozen=True)
class Settings:
    """What all pictures of one call share."""

    steps: int
    guidance: float
    scheduler: str | Mapping[str, Any] | None
    region: Literal["crop", "frame"]
    faithful: bool
    preview: float | None
    guidance_interval: tuple[float, float] | None
    reuse: Literal["control", "deep"] | None
    reuse_every: int
    colour_match: bool
    batch: int
    on_step: Callable[[StepInfo], bool | None] | None


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
    strength: Any
    seed: Any
    noise: Any
    cancel: Any


RELEASED_STEPS, RELEASED_GUIDANCE = 50, 9.0


def check_settings(
    defaults: PackSettings,
    *,
    steps: int | None = None,
    guidance: float | None = None,
    scheduler: str | Mapping[str, Any] | None = None,
    region: str | None = None,
    faithful: bool = False,
    preview: float | None = None,
    guidance_interval: tuple[float, float] | None = None,
    reuse: str | None = None,
    reuse_every: int = 2,
    colour_match: bool = True,
    batch: int = 1,
    on_step: Callable[[StepInfo], bool | None] | None = None,
) -> Settings:
    """Settings from the arguments and the pack's `defaults`; InputError names the argument that is wrong."""
    for name, flag in (("faithful", faithful), ("colour_match", colour_match)):
        if not isinstance(flag, bool):
            raise InputError(f"{name} must be True or False, not {flag!r:.80}")
    if region not in (None, "crop", "frame"):
        raise InputError(f'region must be "crop" or "frame", not {region!r}')
    if scheduler is not None and not isinstance(scheduler, str | Mapping):
        raise InputError(f"scheduler must be a name or a config, not a {type(scheduler).__name__}")
    if reuse not in (None, "control", "deep"):
        raise InputError(f'reuse must be None, "control" or "deep", not {reuse!r}')
    if on_step is not None and not callable(on_step):
        raise InputError(f"on_step must be callable, not a {type(on_step).__name__}")
    if faithful:
        _check_faithful(
            region=region == "crop",
            scheduler=scheduler is not None,
            guidance_interval=guidance_interval is not None,
            reuse=reuse is not None,
            preview=preview is not None,
        )
    if steps is None:
        steps = RELEASED_STEPS if faithful else defaults.steps
    if guidance is None:
        guidance = RELEASED_GUIDANCE if faithful else defaults.guidance
    return Settings(
        steps=integer("steps", steps, 1, 1000),
        guidance=number("guidance", guidance, 0.0, 100.0),
        scheduler=scheduler,
        region="frame" if faithful or region == "frame" else "crop",
        faithful=faithful,
        preview=None if preview is None else number("preview", preview, 0.05, 0.95),
        guidance_interval=_interval(guidance_interval),
        reuse="control" if reuse == "control" else "deep" if reuse == "deep" else None,
        reuse_every=integer("reuse_every", reuse_every, 1, 1000),
        colour_match=colour_match,
        batch=integer("batch", batch, 1, 64),
        on_step=on_step,
    )


def _check_faithful(**given: bool) -> None:
    wrong = [name for name, is_given in given.items() if is_given]
    if wrong:
        raise InputError(
            f"faithful=True runs the released algorithm, which knows no {', '.join(wrong)}; leave "
            f"{'it' if len(wrong) == 1 else 'them'} out, or leave out faithful"
        )


def _interval(given: Any) -> tuple[float, float] | None:
    if given is None:
        return None
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise InputError(
            f"guidance_interval must be (start, end), fractions 0..1 of the steps, not {given!r:.80}"
        )
    start, end = (number("guidance_interval", value, 0.0, 1.0) for value in given)
    if start > end:
        raise InputError(f"guidance_interval must not end before it starts, got {start:g} .. {end:g}")
    return start, end


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
    try:
        value.encode()
    except UnicodeEncodeError as error:  # of a command line in another encoding, for instance
        raise InputError(
            f"{name} {value!r:.80} holds halves of characters: it is no valid Unicode"
        ) from error
    return value


def check_seed(value: Any) -> int:
    """A seed in 0 .. 2**64 - 1."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value < 2**64:
        raise InputError(f"seed must be a whole number from 0 to 2**64 - 1, not {value!r:.80}")
    return int(value)


def check_strength(value: Any) -> float | Literal["adaptive"]:
    """A control strength 0..1.5, or "adaptive"."""
    if isinstance(value, str):
        if value != "adaptive":
            raise InputError(f'strength must be a number from 0 to 1.5 or "adaptive", not {value!r:.80}')
        return "adaptive"
    return number("strength", value, 0.0, 1.5)


def check_cancel(value: Any) -> CancelToken | None:
    """A cancel token, or none."""
    if value is not None and not hasattr(value, "cancelled"):
        raise InputError(f"cancel must be a hoirt.CancelToken, not a {type(value).__name__}")
    token: CancelToken | None = value
    return token


def hand_seed(seed: int, hand: int) -> int:
    """The seed of hand `hand` of a picture: its index is added to the upper half of the Philox key."""
    return (seed + (hand << 32)) % 2**64
