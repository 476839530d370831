"""The one place that holds the version; CMake, the wheel and the C++ core read it from here."""

__version__ = "0.1.0"
