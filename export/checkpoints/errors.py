"""CheckpointError, and how it lists keys."""

from __future__ import annotations

from collections.abc import Iterable

from hoirt.errors import InputError

SHOWN = 5


class CheckpointError(InputError):
    """A file of weights is damaged, of an unknown layout, or not what it was given as."""


def listed(keys: Iterable[str], shown: int = SHOWN) -> str:
    """The first few keys in a fixed order, and how many more there are."""
    names = sorted(keys)
    more = f", and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(ascii(name)[1:-1][:120] for name in names[:shown]) + more
