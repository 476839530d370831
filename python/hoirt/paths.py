"""path_of(): a path that a caller gave, or an InputError for what can be none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hoirt.errors import InputError


def path_of(value: Any, what: str = "the path") -> Path:
    """`value` as a Path; whether anything is there remains to be seen. `what` names it in messages.

    Raises InputError for other types, and for a name that the system does not take or lets nobody look at.
    """
    if not isinstance(value, str | os.PathLike):
        raise InputError(f"{what} must be a str or an os.PathLike, not {value!r:.80}")
    try:
        path = Path(value)
        path.exists()
    except (OSError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"{what} {os.fspath(value)[:80]!r} cannot be used: {reason}") from error
    return path
