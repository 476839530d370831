"""What the pipeline does with arrays between the networks: on a GPU, without a way back to the host."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hoirt.hands.window import Window
from hoirt.pipeline.arrays import Box, Floats

if TYPE_CHECKING:
    from hoirt._core import Device, Network


class DeviceArrays:
    """The operations of `HostArrays` on DeviceTensors.

    Work is enqueued on the device's own stream; nothing waits but get() and finite().
    """

    def __init__(self, device: Device) -> None:
        self.device = device

    def put(self, array: Any) -> Any:
        if isinstance(array, np.ndarray):
            array = np.ascontiguousarray(array)
        return self.device.upload(array)

    def get(self, array: Any) -> NDArray[Any]:
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
        return made

    def split(self, array: Any, counts: Sequence[int]) -> list[Any]:
        whole, ends = self.put(array), np.cumsum(counts)
        return [whole.rows(int(end) - count, int(end)) for end, count in zip(ends, counts, strict=True)]

    def look(self, picture: Any, windows: Sequence[Window], size: tuple[int, int]) -> Any:
        from hoirt import _core

        whole = self.put(picture)
        made = self.device.empty((len(windows), *size, whole.shape[2]), "uint8")
        for index, window in enumerate(windows):
            seen = window.seen((whole.shape[0], whole.shape[1]), size)
            inner = _core.resize(whole, seen.size, box=seen.box, filter="bicubic")
            padded = _core.pad_edge(inner, size, seen.top, seen.left)
            self.device.copy(padded, self.item(made, index))
        return made

    def planes(self, pictures: Any, holes: Any) -> Any:
        from hoirt import _core

        whole = self.put(pictures)
        return self.join([_core.normalise(whole, self.put(holes)), _core.normalise(whole)])

    def hint(self, depths: Any) -> Any:
        from hoirt import _core

        return self.put(_core.normalise(self.put(depths[..., None]), divisor=255.0, offset=0.0))

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


class Downloading:
    """A network on a device that gives its outputs as NumPy arrays: few numbers, the host decides by them."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.inputs, self.outputs = network.inputs, network.outputs

    def run(self, inputs: Any) -> dict[str, NDArray[Any]]:
        found: dict[str, Any] = self._network.run(inputs)
        return {name: tensor.numpy() for name, tensor in found.items()}
