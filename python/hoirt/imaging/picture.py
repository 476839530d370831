"""Picture: the pixels the runtime works on, and how to give a result back in the caller's own kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hoirt.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels: TypeAlias = NDArray[np.uint8]

MAX_SIDE = 8192


@dataclass(frozen=True)
class Picture:
    """One upright picture.

    `pixels` is RGB uint8 (H, W, 3). `alpha`, uint8 (H, W), is kept aside and put back on results. `original`
    is the upright input: a PIL image (also for paths) or a NumPy array.
    """

    pixels: Pixels
    alpha: Pixels | None
    original: Image | NDArray[Any]
    grey: bool = False
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def unchanged(self) -> Image | NDArray[Any]:
        """A copy of the upright input: same dtype, mode, shape and values."""
        return self.original.copy()

    def rebuild(self, pixels: Pixels) -> Image | NDArray[np.uint8]:
        """New RGB pixels (H, W, 3) in the input's kind.

        Arrays give uint8 arrays of the input's shape; PIL images and paths give PIL images. Grey stays grey
        and alpha stays as it was; every other PIL mode (palette, CMYK, 16 bit, ...) becomes 8-bit RGB, RGBA
        or grey.
        """
        channels = _luminance(pixels)[..., None] if self.grey else pixels
        if self.alpha is not None:
            channels = np.dstack([channels, self.alpha])
        if isinstance(self.original, np.ndarray):
            return np.ascontiguousarray(channels).reshape(self.original.shape)
        from PIL import Image as PilImage

        image = PilImage.fromarray(
            np.ascontiguousarray(channels.squeeze(-1) if channels.shape[2] == 1 else channels)
        )
        image.info.update(self.info)
        return image


def check_size(height: int, width: int, what: str) -> None:
    """Raises InputError unless both sides lie in 1..8192."""
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise InputError(f"{what} is {width} x {height} pixels; each side must be between 1 and {MAX_SIDE}")


def _luminance(pixels: Pixels) -> Pixels:
    """ITU-R 601 luma in integers; a grey pixel (g, g, g) gives exactly g."""
    weights = np.array([19595, 38470, 7471], np.uint32)
    return ((pixels.astype(np.uint32) @ weights + 0x8000) >> 16).astype(np.uint8)
