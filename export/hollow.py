"""Modules whose weights hold no memory: each remembers where its value is read when it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

Read = Callable[[], Tensor]


class Reader(Protocol):
    """The part of a WeightSource that is needed here."""

    def read(self, key: str) -> Tensor: ...


class StateDict:
    """The weights of a module that is in memory, as a source."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self._state = state

    def read(self, key: str) -> Tensor:
        return self._state[key]


@contextmanager
def without_memory() -> Iterator[None]:
    """Modules made in this block have parameters on the meta device (no memory, no time to initialise);
    their buffers are real. Not for several threads at once.
    """
    register = nn.Module.register_parameter

    def register_on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None:
            parameter = nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
        register(module, name, parameter)

    nn.Module.register_parameter = register_on_meta  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def hollow(module: nn.Module, source: Reader) -> nn.Module:
    """Replaces every parameter and every floating-point buffer of the state dict of `module`, in place, by a
    placeholder that takes part in computations, holds one number and has `read`, which reads the real value.

    The numbers differ from each other, so that no two weights look equal to an exporter. The module may be on
    the device "meta". Raises ValueError for a buffer there that is neither in the state dict nor known.
    """
    persistent = module.state_dict(keep_vars=True)
    made: dict[int, Tensor] = {}
    for key, tensor in persistent.items():
        if not tensor.is_floating_point():
            continue
        if id(tensor) not in made:  # a parameter may have two names
            made[id(tensor)] = _placeholder(tensor, partial(source.read, key), len(made))
        holder_path, _, name = key.rpartition(".")
        holder = module.get_submodule(holder_path)
        table: dict[str, Any] = holder._parameters if name in holder._parameters else holder._buffers
        table[name] = made[id(tensor)]
    for part in module.modules():
        for name, buffer in part._buffers.items():
            if buffer is not None and buffer.is_meta:
                if name != "position_ids":
                    raise ValueError(f"{type(part).__name__} has a buffer {name} whose value is not known")
                part._buffers[name] = torch.arange(buffer.shape[-1]).expand(buffer.shape)
    return module


def _placeholder(tensor: Tensor, read: Read, number: int) -> Tensor:
    value = torch.full((), 1e-3 + 1e-9 * number, dtype=torch.float32).expand(tensor.shape)
    placeholder = nn.Parameter(value, requires_grad=False) if isinstance(tensor, nn.Parameter) else value
    placeholder.read = read  # type: ignore[attr-defined]
    return placeholder


def reader_of(tensor: Tensor) -> Read:
    """Where the value of a placeholder, or of a tensor that is real, is read."""
    read: Read | None = getattr(tensor, "read", None)
    return read if read is not None else tensor.detach


def is_hollow(module: nn.Module) -> bool:
    """Whether any parameter is a placeholder."""
    return any(hasattr(parameter, "read") for parameter in module.parameters())
