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
    from hoirt._core import Device, DeviceTensor, Network


class DeviceArrays:
    """The operations of `HostArrays` on DeviceTensors.

    Work is enqueued on the device's own stream; nothing waits but get() and finite().
    """

    def __init__(self, device: Device) -> None:
        self.device = device

    def put(self, array: NDArray[Any] | DeviceTensor) -> DeviceTensor:
        if isinstance(array, np.ndarray):
            array = np.ascontiguousarray(array)
        return self.device.upload(array)

    def get(self, array: DeviceTensor) -> NDArray[Any]:
        return array.numpy()

    def copy(self, array: DeviceTensor) -> DeviceTensor:
        made = self.device.empty(array.shape, array.dtype)
        self.device.copy(array, made)
        return made

    def join(self, parts: Sequence[Any], axis: int = 0) -> DeviceTensor:
        """Host arrays among the parts are uploaded. All axes but one must agree."""
        here = [self.put(part) for part in parts]
        if len(here) == 1:
            return here[0]
        shape = list(here[0].shape)
        shape[axis] = sum(part.shape[axis] for part in here)
        made = self.device.empty(shape, here[0].dtype)
        outer = math.prod(shape[:axis])
        rows = made.reshape((outer * shape[axis], *shape[axis + 1 :]))
        at = 0
        flat = [part.reshape((outer * part.shape[axis], *part.shape[axis + 1 :])) for part in here]
        for item in range(outer):
            for part, original in zip(flat, here, strict=True):
                count = original.shape[axis]
                self.device.copy(part.rows(item * count, (item + 1) * count), rows.rows(at, at + count))
                at += count
        return made

    def split(self, array: DeviceTensor, counts: Sequence[int]) -> list[DeviceTensor]:
        ends = np.cumsum(counts)
        return [array.rows(int(end - count), int(end)) for end, count in zip(ends, counts, strict=True)]

    def item(self, array: DeviceTensor, index: int) -> DeviceTensor:
        return array.rows(index, index + 1).reshape(tuple(array.shape[1:]))

    def look(self, picture: DeviceTensor, windows: Sequence[Window], size: tuple[int, int]) -> DeviceTensor:
        from hoirt import _core

        made = self.device.empty((len(windows), *size, picture.shape[2]), "uint8")
        for index, window in enumerate(windows):
            seen = window.seen((picture.shape[0], picture.shape[1]), size)
            inner = _core.resize(picture, seen.size, box=seen.box, filter="bicubic")
            whole = _core.pad_edge(inner, size, seen.top, seen.left)
            self.device.copy(whole, made.rows(index, index + 1).reshape(whole.shape))
        return made

    def planes(self, pictures: DeviceTensor, holes: Any) -> DeviceTensor:
        from hoirt import _core

        return self.join([_core.normalise(pictures, self.put(holes)), _core.normalise(pictures)])

    def hint(self, depths: Any) -> DeviceTensor:
        from hoirt import _core

        grey = self.put(np.ascontiguousarray(depths[..., None]))
        made: DeviceTensor = _core.normalise(grey, divisor=255.0, offset=0.0)
        return made

    def sample(self, mean: DeviceTensor, logvar: DeviceTensor, noise: Any, scale: float) -> DeviceTensor:
        from hoirt import _core

        given = None if noise is None else self.put(noise)
        made: DeviceTensor = _core.sample_posterior(mean, logvar, given, scale=scale)
        return made

    def unscaled(self, latents: DeviceTensor, scale: float) -> DeviceTensor:
        from hoirt import _core

        made: DeviceTensor = _core.sample_posterior(self.put(latents), None, None, divisor=scale)
        return made

    def finite(self, array: DeviceTensor) -> bool:
        from hoirt import _core

        return _core.all_finite(array)

    def colours(self, decoded: DeviceTensor) -> DeviceTensor:
        from hoirt import _core

        made: DeviceTensor = _core.colours(decoded)
        return made

    def match_colours(self, colours: DeviceTensor, original: DeviceTensor, hole: Any) -> DeviceTensor:
        from hoirt import _core

        made: DeviceTensor = _core.match_colours(colours, original, self.put(hole))
        return made

    def resize(self, colours: DeviceTensor, size: tuple[int, int], box: Box) -> DeviceTensor:
        from hoirt import _core

        made: DeviceTensor = _core.resize(colours, size, box=box, filter="bilinear")
        return made

    def paste(self, picture: DeviceTensor, patch: DeviceTensor, alpha: Floats, top: int, left: int) -> None:
        from hoirt import _core

        _core.paste_into(picture, patch, self.put(alpha), top, left)


class Downloading:
    """A network on a device that gives its outputs as NumPy arrays: few numbers, the host decides by them."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.inputs, self.outputs = network.inputs, network.outputs

    def run(self, inputs: Any) -> dict[str, NDArray[Any]]:
        found: dict[str, Any] = self._network.run(inputs)
        return {name: tensor.numpy() for name, tensor in found.items()}
