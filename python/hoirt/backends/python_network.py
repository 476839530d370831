"""Networks whose work a Python function enqueues on the stream of the caller."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from hoirt._core import Network, Port

# fn(inputs, outputs, stream): enqueues the work on `stream` (a cudaStream_t as int; 0 on the CPU), fills the
# outputs that are given in place and returns those that are None, as DLPack objects. Arrays are NumPy views
# on the CPU and DeviceTensors elsewhere, both with .shape and .dtype.
Enqueue: TypeAlias = Callable[[dict[str, Any], dict[str, Any], int], "Mapping[str, Any] | None"]


def make_network(
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    fn: Enqueue,
    *,
    device: str,
    capturable: bool = True,
    twins: Sequence[str] = (),
) -> Network:
    """The network of `fn` on `device`; `capturable`: whether the work may be captured as a CUDA graph.

    twins: inputs that `fn` also takes with half of the items, where both halves of a guided batch are alike.
    """
    from hoirt import _core

    return _core.DeviceNetwork(inputs, outputs, fn, device=device, capturable=capturable, twins=twins)


def address_of(array: Any) -> int:
    """Where the elements of a NumPy array or a DeviceTensor begin."""
    return int(array.address) if hasattr(array, "address") else int(array.ctypes.data)
