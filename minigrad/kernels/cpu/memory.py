"""Floor 2, CPU: large buffers are kept by the process instead of being mapped anew at every step.

glibc's ``malloc`` takes each block above 128 KiB from the system and gives it back when it is freed; a
training step then pays thousands of page faults. Two ``mallopt`` settings keep the memory. They hold for the whole
process; ``MINIGRAD_KEEP_MEMORY=0`` leaves the allocator alone. Other C libraries keep what they do.
"""

from __future__ import annotations

import ctypes
import sys

from minigrad.config import config

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>


def keep_memory() -> bool:
    """Tell glibc to keep freed memory; True if it agreed."""
    if not config.keep_memory or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    largest = 2**31 - 1
    return bool(mallopt(_M_MMAP_THRESHOLD, largest) and mallopt(_M_TRIM_THRESHOLD, largest))
