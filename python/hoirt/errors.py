"""The typed errors of hoirt, one to one with engine/error.h."""


class HoirtError(Exception):
    """Base of every error that hoirt raises on purpose."""


class InputError(HoirtError, ValueError):
    """An argument cannot be right: shape, dtype, range, NaN, or an unknown name."""


class PackError(HoirtError):
    """A model pack is damaged, hostile, incomplete or of another schema."""


class BackendError(HoirtError):
    """A backend is missing or failed; the message says which and why."""


class Cancelled(HoirtError):  # noqa: N818 - the name is the C++ twin's
    """The caller asked to stop; the run stopped at a step boundary."""


class OutOfMemory(HoirtError, MemoryError):  # noqa: N818 - the name is the C++ twin's
    """There is not enough memory for this request."""
