"""Result: what refine() gives back; StepInfo: what it tells while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hoirt.hands.hand import Hand
from hoirt.pipeline.timings import Timings

if TYPE_CHECKING:
    from PIL.Image import Image

Status: TypeAlias = Literal["refined", "no_hand", "unchanged", "cancelled", "error"]


@dataclass(frozen=True)
class Trial:
    """A control strength that was tried, and the error of its hands' joints: 2-D MPJPE in pixels."""

    strength: float
    error: float


@dataclass(frozen=True, eq=False)
class Result:
    """One refined picture.

    Attributes:
        image: the picture in its own kind: PIL image for a path or PIL image, array for an array. Pixels
            where `mask` is 0 are bit-identical to the input (not with faithful=True, which gives back the
            whole decoded picture, as the release does). Refined arrays are uint8 of the input's shape;
            refined PIL images keep RGB, RGBA, L and LA, other modes become the nearest of these. Where
            nothing was refined it is an upright copy of the input, dtype and mode included. None for status
            "error" and "cancelled".
        status: "refined"; "no_hand": none was found; "unchanged": the hands found lie outside the given mask;
            "cancelled": by this picture's own token; "error": this picture of a list failed, see `error`.
        hands: the hands found or given.
        depth: (H, W) uint8, the depth condition: 255 nearest .. 51 farthest of each hand, 0 background.
        mask: (H, W) uint8, 1 = regenerated.
        strength: the control strength used; with "adaptive" the chosen one.
        trials: with "adaptive", the strengths that were tried, in order, with their errors.
        seed: the seed used; hand k draws its noise from seed + k * 2**32 (mod 2**64).
        timings: seconds per stage.
        error: the exception of a failed picture, else None.
    """

    image: Image | NDArray[Any] | None = field(repr=False)
    status: Status
    hands: tuple[Hand, ...] = ()
    depth: NDArray[np.uint8] | None = field(default=None, repr=False)
    mask: NDArray[np.uint8] | None = field(default=None, repr=False)
    strength: float = 0.0
    trials: tuple[Trial, ...] = ()
    seed: int = 0
    timings: Timings = field(default_factory=Timings, repr=False)
    error: Exception | None = None

    def summary(self) -> str:
        """One line: what happened, how many hands, how long; or the error."""
        if self.status == "cancelled":
            return "cancelled"
        if self.error is not None:
            return f"failed, {self.error}".replace("\n", " ")
        hands = f", {len(self.hands)} hand{'' if len(self.hands) == 1 else 's'}" if self.hands else ""
        chosen = f", strength {self.strength:g} of {len(self.trials)} tried" if self.trials else ""
        return f"{self.status.replace('_', ' ')}{hands}{chosen}, {self.timings.total:.2f} s"


@dataclass(frozen=True, eq=False)
class StepInfo:
    """What `on_step` is given after every denoising step; returning False cancels the run.

    Attributes:
        step, steps: the step just done, 0 .. steps - 1, and their number.
        timestep: what the network was given.
        seconds: since the first step began.
        hands: number of regions in the batch N.
        image: index of the picture in the list; of a batch of pictures, of the first.
        run: 0, and with strength "adaptive" counting up for each strength that is tried.
        x0: (N, 4, h, w) float32 latents, the present estimate of the result; valid during the callback only.
    """

    step: int
    steps: int
    timestep: float
    seconds: float
    hands: int
    image: int
    run: int
    x0: NDArray[np.float32] = field(repr=False)
