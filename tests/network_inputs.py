"""Random inputs for any network of a pack, by the names and shapes of its ports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from hoirt._core import Network

PICTURES = ("image", "depth")


def inputs_of(
    network: Network, *, height: int, width: int, factor: int = 4, batch: int = 2, vocabulary: int = 300
) -> dict[str, NDArray[Any]]:
    """For pictures of `height` x `width` pixels and a VAE that divides them by `factor`.

    The features of a step are smaller by 1, 2 or 4, as the number of the level in their ports' names says.
    """
    random = np.random.default_rng(0)
    given: dict[str, NDArray[Any]] = {}
    for port in network.inputs:
        divisor = 1 if port.name in PICTURES else factor * _level(port.name)
        free = {0: batch, 1: 24, 2: height // divisor, 3: width // divisor}
        shape = [free[axis] if extent == -1 else extent for axis, extent in enumerate(port.shape)]
        if port.dtype == "int64":
            given[port.name] = random.integers(0, vocabulary, shape)
        elif port.name == "timestep":
            given[port.name] = np.linspace(1, 990, shape[0], dtype=np.float32)
        elif port.name in PICTURES:
            given[port.name] = random.random(shape, dtype=np.float32)
        else:
            given[port.name] = random.standard_normal(shape, dtype=np.float32)
    return given


def _level(name: str) -> int:
    """Of the bundled pack's ControlNet: two features at full size, then two at each half, and the middle."""
    if not name.startswith("kept_control_"):
        return 1
    number = name.removeprefix("kept_control_")
    return 4 if number == "mid" else {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4}[int(number)]
