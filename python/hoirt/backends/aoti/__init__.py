"""The aoti backend: AOTInductor packages that `hoirt pack compile` made, run by PyTorch."""

from hoirt.backends.aoti.backend import Backend

__all__ = ["Backend"]
