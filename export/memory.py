"""Keeps freed weights from counting as memory of the process."""

from __future__ import annotations

import ctypes
import sys

_M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
_LARGE = 1 << 20  # bytes


def return_large_blocks() -> None:
    """From now on glibc gives freed blocks of a megabyte and more back to the system at once.

    By itself it raises that limit to 32 MB as such blocks are freed and keeps them in a heap that small
    objects cut to pieces: passing weights by one at a time then costs as much memory as all of them. Nothing
    happens where the C library has no such switch.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, _LARGE)
