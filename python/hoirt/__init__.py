"""hoirt: a compiled runtime for hand-object interaction models."""

from hoirt._version import __version__
from hoirt.errors import BackendError, Cancelled, HoirtError, InputError, OutOfMemory, PackError

__all__ = ["BackendError", "Cancelled", "HoirtError", "InputError", "OutOfMemory", "PackError", "__version__"]
