"""Reads pickles that nobody vouches for: an interpreter of its own that can only build data.

Python's unpickler calls what the file names, and `find_class` alone does not stop it: BUILD writes
attributes, a memo index allocates. Here a global is only looked up in a table of (module, name) pairs, each
with a builder written in hoirt; nothing is imported, no attribute is looked up, no object of the file is
called. What comes out is made of None, bool, int, float, str, bytes, list, tuple, dict, set, NumPy arrays and
scalars, and `Inert` records (SciPy's sparse matrices, chumpy's arrays). Protocols 0 to 5; strings of Python 2
are read as Latin-1, which keeps the bytes of arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hoirt.errors import InputError
from hoirt.safe_pickle_machine import Machine, plain
from hoirt.safe_pickle_types import Bad, Inert, Storage

__all__ = ["Inert", "Limits", "loads"]


@dataclass(frozen=True)
class Limits:
    """What one pickle may ask for: its length in bytes, its instructions, how deep its data may be nested."""

    size: int = 64 * 2**20
    instructions: int = 2_000_000
    depth: int = 64


DEFAULT = Limits()


def loads(data: bytes, name: str = "pickle", limits: Limits = DEFAULT) -> Any:
    """The data of one pickle; bytes after its end are an error.

    Args:
        data: the whole pickle.
        name: what error messages call it, a file name usually.
        limits: more than these is refused.

    Raises:
        InputError: not a pickle, truncated, over a limit, or it names anything that is not plain data;
            nothing of it has been run then.
    """
    value, end = load_first(data, name, limits)
    if end != len(data):
        raise InputError(f"{name}: {len(data) - end} bytes follow the end of the pickle at byte {end}")
    return value


def load_first(
    data: bytes,
    name: str,
    limits: Limits = DEFAULT,
    start: int = 0,
    storage: Callable[[Any], Storage] | None = None,
) -> tuple[Any, int]:
    """The pickle that begins at byte `start`, and where it ends.

    `storage` makes what a persistent id stands for; if it is None, persistent ids are refused.
    """
    if len(data) - start > limits.size:
        raise InputError(f"{name}: {len(data) - start} bytes; at most {limits.size} are accepted")
    machine = Machine(data, start, limits.instructions, storage)
    try:
        value = machine.run()
        if not isinstance(value, Storage) or storage is None:
            check_depth(value, limits.depth)
    except Bad as error:
        raise InputError(f"{name}: at byte {machine.at}: {error}") from None
    except (TypeError, ValueError, OverflowError) as error:  # from NumPy, of a malformed part
        raise InputError(f"{name}: at byte {machine.at}: {error}") from None
    except MemoryError:
        raise InputError(f"{name}: at byte {machine.at}: asks for more memory than there is") from None
    return value, machine.position


def check_depth(value: Any, limit: int) -> None:
    """Refuses data nested deeper than `limit`, and so also data that contains itself."""
    seen: dict[int, int] = {}
    stack = [(value, 0)]
    while stack:
        item, depth = stack.pop()
        children: Any
        if isinstance(item, dict):
            children = item.values()
        elif isinstance(item, (list, tuple)):
            children = item
        elif isinstance(item, Inert):
            children = (item.args, item.state)
        elif isinstance(item, np.ndarray) and item.dtype.hasobject:
            children = item.ravel().tolist()
        else:
            plain(item)
            continue
        if depth >= limit:
            raise Bad(f"the data is nested more than {limit} deep, or contains itself")
        # Shared parts are looked at again only where they lie deeper: no explosion; a cycle meets the limit.
        if seen.get(id(item), -1) < depth:
            seen[id(item)] = depth
            stack.extend((child, depth + 1) for child in children)
