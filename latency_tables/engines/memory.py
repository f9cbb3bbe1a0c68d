"""Freed memory that a process keeps, so that it does not fetch it anew in every inference."""

import ctypes
import platform

KEPT = "freed memory kept"
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h; -1 and 0 mean never


def can_keep_memory() -> bool:
    """Tell whether this system's allocator can be told to keep freed memory: glibc's can."""
    return platform.libc_ver()[0] == "glibc"


def keep_memory() -> None:
    """Have glibc give nothing back to the system, for the whole process; elsewhere do nothing.

    By default it gives back, or does not, by where on the heap a network's largest results happen
    to lie: one copy of a network then meets thousands of page faults in every run, and the next
    one none. There is no way back (thresholds that were set no longer adapt), nor much need.
    """
    if can_keep_memory():
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)
        libc.mallopt(_M_MMAP_MAX, 0)
