"""What the pipeline does with arrays between the networks: on the host with NumPy and Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hoirt.hands.hand import Hand
from hoirt.hands.mask import grow, soften, visible_hand
from hoirt.hands.window import Window
from hoirt.imaging import resize

if TYPE_CHECKING:
    from hoirt._core import Device
    from hoirt.pipeline.device_arrays import DeviceArrays

Floats: TypeAlias = NDArray[np.float32]
Pixels: TypeAlias = NDArray[np.uint8]
Box: TypeAlias = tuple[float, float, float, float]
Arrays: TypeAlias = "HostArrays | DeviceArrays"


class HostArrays:
    """The operations on NumPy arrays. `hoirt.pipeline.device_arrays` has the same ones for a GPU."""

    device: Device | None = None

    def put(self, array: NDArray[Any]) -> Any:
        """The array where the pipeline runs."""
        return array

    def get(self, array: Any) -> NDArray[Any]:
        """The array on the host."""
        return np.asarray(array)

    def copy(self, array: Any) -> Any:
        """The same values in memory of their own."""
        return array.copy()

    def join(self, parts: Sequence[Any], axis: int = 0) -> Any:
        """The arrays behind one another along an axis."""
        return np.concatenate(parts, axis=axis) if len(parts) > 1 else parts[0]

    def split(self, array: Any, counts: Sequence[int]) -> list[Any]:
        """The parts of `counts` items each, along the first axis."""
        return np.split(array, np.cumsum(counts)[:-1])

    def item(self, array: Any, index: int) -> Any:
        """One item of the first axis."""
        return array[index]

    def stack(self, parts: Sequence[Any]) -> Any:
        """Arrays of one shape as the items of one."""
        return np.stack(parts)

    def zeros(self, size: tuple[int, int]) -> Any:
        """An empty map, uint8 (h, w)."""
        return np.zeros(size, np.uint8)

    def look(self, picture: Any, windows: Sequence[Window], size: tuple[int, int]) -> Any:
        """The windows of a picture (H, W, 3), uint8 (N, h, w, 3); see `Window.look`."""
        return np.stack([window.look(picture, size) for window in windows])

    def look_at(self, map: Any, window: Window, size: tuple[int, int], *, smooth: bool = True) -> Any:
        """A window of a map (H, W), uint8 (h, w); see `Window.look`."""
        return window.look(map, size, smooth=smooth)

    def see(self, map: Any, hand: Hand, crop: Window, window: Window) -> None:
        """Sets the pixels of a map uint8 (h, w) over `window` where the hand was seen in its `crop`."""
        map[visible_hand(hand, crop, window, map.shape)] = 1

    def grow(self, mask: Any, radius: int) -> Any:
        """The pixels of a mask or map (h, w) that are not 0, dilated by a disc, bool."""
        return grow(mask, radius)

    def any(self, mask: Any) -> bool:
        """Whether any pixel of a mask (h, w) is set."""
        return bool(mask.any())

    def touched(self, masks: Any, factor: int) -> Any:
        """float32 (N, 1, h / factor, w / factor): 1 where any pixel of the cell of masks (N, h, w) is set."""
        count, height, width = masks.shape
        cells = masks.reshape(count, height // factor, factor, width // factor, factor)
        return np.asarray(cells.any(axis=(2, 4)), np.float32)[:, None]

    def soften(self, mask: Any, width: float, *, fade_at_border: bool) -> Any:
        """See `hoirt.hands.mask`."""
        return soften(mask, width, fade_at_border=fade_at_border)

    def lay(self, map: Any, part: Any, rows: slice, columns: slice) -> None:
        """Lays what is not 0 of a part, stretched to the rows and columns, over a map uint8 (H, W)."""
        stretched = resize(part, (rows.stop - rows.start, columns.stop - columns.start), smooth=False)
        np.copyto(map[rows, columns], stretched, where=stretched > 0)

    def part(self, map: Any, rows: slice, columns: slice) -> Any:
        """Rows and columns of a map uint8 (H, W), as float32."""
        return map[rows, columns].astype(np.float32)

    def cut(self, inside: Any, opacity: Any, box: Box, map: Any, top: int, left: int) -> Any:
        """The box of the opacity, resampled to the size of `inside` (h, w) float32, where that is more than
        0.5, else 0. There the map uint8 (H, W) becomes 1. None if it is known that there is nothing.
        """
        within = inside > 0.5
        if not within.any():
            return None
        map[top : top + within.shape[0], left : left + within.shape[1]] |= within
        return np.where(within, resize(opacity, within.shape, box=box), np.float32(0))

    def planes(self, pictures: Any, holes: Any) -> Any:
        """-1..1 float32 (2 N, 3, h, w) of pictures (N, h, w, 3): first with their holes (N, h, w) grey, then
        whole."""
        images = pictures.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(127.5) - np.float32(1)
        return np.concatenate([images * ~holes[:, None], images])

    def hint(self, depths: Any) -> Any:
        """0..1 float32 (N, 3, h, w) of depth maps uint8 (N, h, w)."""
        grey = depths[:, None].astype(np.float32) / np.float32(255)
        return np.repeat(grey, 3, axis=1)

    def sample(self, mean: Any, logvar: Any, noise: Any, scale: float) -> Any:
        """(mean + exp(logvar / 2) noise) scale, float32; without noise the mean's part."""
        if noise is not None:
            mean = mean + np.exp(np.float32(0.5) * logvar) * noise
        return mean * np.float32(scale)

    def unscaled(self, latents: Any, scale: float) -> Any:
        """latents / scale, float32."""
        return latents / np.float32(scale)

    def finite(self, array: Any) -> bool:
        """Whether there is neither NaN nor infinity in a float32 array."""
        return bool(np.isfinite(array).all())

    def colours(self, decoded: Any) -> Any:
        """0..255 float32 (N, h, w, 3) of what the decoder gives, (N, 3, h, w) of -1..1."""
        return np.ascontiguousarray(
            np.clip(decoded.transpose(0, 2, 3, 1) * np.float32(127.5) + np.float32(127.5), 0, 255)
        )

    def match_colours(self, colours: Any, original: Any, hole: Any) -> Any:
        """Decoded float32 colours (h, w, 3) without the shift that those outside of the hole (h, w) show
        against the original; see `hoirt._core.match_colours`."""
        from hoirt import _core

        return _core.match_colours(colours, original, hole)

    def resize(self, colours: Any, size: tuple[int, int], box: Box) -> Any:
        """The box of float32 colours (h, w, 3), resampled to `size`."""
        return resize(colours, size, box=box)

    def paste(self, picture: Any, patch: Any, alpha: Floats, top: int, left: int) -> None:
        """Blends a patch (h, w, 3) with alpha (h, w) into the picture (H, W, 3) uint8, in place."""
        from hoirt import _core

        rows, columns = slice(top, top + alpha.shape[0]), slice(left, left + alpha.shape[1])
        picture[rows, columns] = _core.paste(np.ascontiguousarray(picture[rows, columns]), patch, alpha, 0, 0)
