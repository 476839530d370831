"""The extents that a network is compiled for: the names in its ports, and what they stand for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from hoirt.errors import InputError, PackError

from .graph import Port

BATCH = ("N", "S")  # pictures, or steps of a schedule
LARGEST_BATCH = 1024


@dataclass(frozen=True)
class Extents:
    """What a network is compiled for.

    Attributes:
        height, width: of the picture, in pixels. factor: pixels per latent. batch: the fixed number of items;
            None: any number from 1. twins: the inputs that have half of a fixed number, or a free number of
            their own, see twins.py.
    """

    height: int
    width: int
    factor: int
    batch: int | None = None
    twins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, side in (("height", self.height), ("width", self.width)):
            if not 0 < side <= 8192 or side % self.factor:
                raise InputError(f"the {name} must be a multiple of {self.factor} up to 8192, not {side}")
        if self.batch is not None and not 0 < self.batch <= LARGEST_BATCH:
            raise InputError(f"the batch must be 1..{LARGEST_BATCH}, not {self.batch}")

    def of(self, port: Port) -> tuple[int, ...]:
        """The shape of a port; -1 where the batch is free.

        Raises PackError for a name of no known meaning, InputError for sides that cannot be halved so often.
        """
        return tuple(extent if isinstance(extent, int) else self._of(extent, port) for extent in port.shape)

    def _of(self, name: str, port: Port) -> int:
        if name in BATCH:
            if self.batch is None:
                return -1
            return self.batch // 2 if port.name in self.twins else self.batch
        sides: Mapping[str, int] = {"H": self.height, "W": self.width}
        if name in sides:
            return sides[name]
        match = re.fullmatch(r"([hw])([0-9]{0,4})", name)
        if match is None:
            raise PackError(f"the input {port.name} has an extent {name!r}, which stands for nothing known")
        divisor = self.factor * int(match[2] or 1)
        side = self.height if match[1] == "h" else self.width
        if side % divisor:
            raise InputError(f"sides must be multiples of {divisor} for this network, not {side}")
        return side // divisor
