"""What the pipeline does with arrays between the networks: on a GPU, without a way back to the host."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hoirt.hands.hand import Hand
from hoirt.hands.window import Window
from hoirt.pipeline.arrays import Box, Floats

if TYPE_CHECKING:
    from hoirt._core import Device, Network


class DeviceArrays:
    """The operations of `HostArrays` on DeviceTensors.

    Work is enqueued on the device's own stream; nothing waits but get(), any() and finite().
    """

    def __init__(self, device: Device) -> None:
        self.device = device

    def put(self, array: Any) -> Any:
        if isinstance(array, np.ndarray):
            array = np.ascontiguousarray(array)
        return self.device.upload(array)

    def get(self, array: Any) -> NDArray[Any]:
        if isinstance(array, np.ndarray):
            return array
        values: NDArray[Any] = self.put(array).numpy()
        return values

    def copy(self, array: Any) -> Any:
        source = self.put(array)
        made = self.device.empty(source.shape, source.dtype)
        self.device.copy(source, made)
        return made

    def item(self, array: Any, index: int) -> Any:
        one = self.put(array).rows(index, index + 1)
        return one.reshape(one.shape[1:])

    def join(self, parts: Sequence[Any], axis: int = 0) -> Any:
        """All axes but one must agree."""
        here = [self.put(part) for part in parts]
        if len(here) == 1:
            return here[0]
        counts = [part.shape[axis] for part in here]
        before, after = here[0].shape[:axis], here[0].shape[axis + 1 :]
        made = self.device.empty((*before, sum(counts), *after), here[0].dtype)
        # In rows that lie together in memory, of which every part gives some in turn.
        outer = math.prod(before)
        rows = made.reshape((outer * sum(counts), *after))
        flat = [part.reshape((outer * count, *after)) for part, count in zip(here, counts, strict=True)]
        at = 0
        for item in range(outer):
            for part, count in zip(flat, counts, strict=True):
                self.device.copy(part.rows(item * count, (item + 1) * count), rows.rows(at, at + count))
                at += count
        return self.put(made)

    def split(self, array: Any, counts: Sequence[int]) -> list[Any]:
        whole, ends = self.put(array), np.cumsum(counts)
        return [whole.rows(int(end) - count, int(end)) for end, count in zip(ends, counts, strict=True)]

    def stack(self, parts: Sequence[Any]) -> Any:
        return self.join([here.reshape((1, *here.shape)) for here in map(self.put, parts)])

    def zeros(self, size: tuple[int, int]) -> Any:
        return self.device.zeros(size, "uint8")

    def look(self, picture: Any, windows: Sequence[Window], size: tuple[int, int]) -> Any:
        whole = self.put(picture)
        return self.stack([self._look(whole, window, size, "bicubic") for window in windows])

    def look_at(self, map: Any, window: Window, size: tuple[int, int], *, smooth: bool = True) -> Any:
        whole = self.put(map)
        seen = self._look(whole.reshape((*whole.shape, 1)), window, size, "bicubic" if smooth else "nearest")
        return seen.reshape(size)

    def _look(self, whole: Any, window: Window, size: tuple[int, int], filter: str) -> Any:
        from hoirt import _core

        seen = window.seen((whole.shape[0], whole.shape[1]), size)
        inner = _core.resize(whole, seen.size, box=seen.box, filter=filter)
        return self.put(_core.pad_edge(inner, size, seen.top, seen.left))

    def see(self, map: Any, hand: Hand, crop: Window, window: Window) -> None:
        from hoirt import _core

        if hand.region is not None:
            _core.look_up_into(map, hand.region, crop=_corners(crop), window=_corners(window))

    def grow(self, mask: Any, radius: int) -> Any:
        from hoirt import _core

        return self.put(_core.grow(self.put(mask), radius))

    def any(self, mask: Any) -> bool:
        from hoirt import _core

        return _core.any_set(self.put(mask))

    def touched(self, masks: Any, factor: int) -> Any:
        from hoirt import _core

        return self.put(_core.touched(self.put(masks), factor))

    def soften(self, mask: Any, width: float, *, fade_at_border: bool) -> Any:
        from hoirt import _core

        return self.put(_core.soften(self.put(mask), width, fade_at_border=fade_at_border))

    def lay(self, map: Any, part: Any, rows: slice, columns: slice) -> None:
        from hoirt import _core

        size = (rows.stop - rows.start, columns.stop - columns.start)
        stretched = _core.resize(self.put(part), size, filter="nearest")
        _core.lay_into(map, stretched, rows.start, columns.start)

    def part(self, map: Any, rows: slice, columns: slice) -> Any:
        from hoirt import _core

        size = (rows.stop - rows.start, columns.stop - columns.start)
        box = (columns.start, rows.start, columns.stop, rows.stop)
        taken = self.put(_core.resize(self.put(map), size, box=box, filter="nearest"))
        floats = _core.normalise(taken.reshape((1, *size, 1)), channels=1, divisor=1.0, offset=0.0)
        return self.put(floats).reshape(size)

    def cut(self, inside: Any, opacity: Any, box: Box, map: Any, top: int, left: int) -> Any:
        from hoirt import _core

        within = self.put(inside)
        return self.put(_core.cut_into(map, within, self.resize(opacity, within.shape, box), top, left))

    def planes(self, pictures: Any, holes: Any) -> Any:
        from hoirt import _core

        whole = self.put(pictures)
        return self.join([_core.normalise(whole, self.put(holes)), _core.normalise(whole)])

    def hint(self, depths: Any) -> Any:
        from hoirt import _core

        here = self.put(depths)
        return self.put(_core.normalise(here.reshape((*here.shape, 1)), divisor=255.0, offset=0.0))

    def sample(self, mean: Any, logvar: Any, noise: Any, scale: float) -> Any:
        from hoirt import _core

        given = None if noise is None else self.put(noise)
        return self.put(_core.sample_posterior(self.put(mean), self.put(logvar), given, scale=scale))

    def unscaled(self, latents: Any, scale: float) -> Any:
        from hoirt import _core

        return self.put(_core.sample_posterior(self.put(latents), divisor=scale))

    def finite(self, array: Any) -> bool:
        from hoirt import _core

        return _core.all_finite(self.put(array))

    def colours(self, decoded: Any) -> Any:
        from hoirt import _core

        return self.put(_core.colours(self.put(decoded)))

    def match_colours(self, colours: Any, original: Any, hole: Any) -> Any:
        from hoirt import _core

        return self.put(_core.match_colours(self.put(colours), self.put(original), self.put(hole)))

    def resize(self, colours: Any, size: tuple[int, int], box: Box) -> Any:
        from hoirt import _core

        return self.put(_core.resize(self.put(colours), size, box=box, filter="bilinear"))

    def paste(self, picture: Any, patch: Any, alpha: Floats, top: int, left: int) -> None:
        from hoirt import _core

        _core.paste_into(picture, self.put(patch), self.put(alpha), top, left)


def _corners(window: Window) -> tuple[int, int, int, int]:
    return window.left, window.top, window.width, window.height


class Downloading:
    """A network on a device that gives its outputs as NumPy arrays: few numbers, the host decides by them."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.inputs, self.outputs = network.inputs, network.outputs

    def run(self, inputs: Any) -> dict[str, NDArray[Any]]:
        found: dict[str, Any] = self._network.run(inputs)
        return {name: tensor.numpy() for name, tensor in found.items()}
