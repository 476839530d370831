"""Backends, which run networks.

`choose()` picks one for a device and a pack and keeps the reasons; `load()` gives one by name; `available()`
says which ones this machine can run, and why not the others. None of these imports the package of a runtime.
"""

from hoirt.backends.choice import Choice, choose
from hoirt.backends.interface import Backend
from hoirt.backends.registry import available, load

__all__ = ["Backend", "Choice", "available", "choose", "load"]
