"""The C library's allocator, told to keep what a training step frees: the next step needs blocks of the same sizes.

glibc otherwise gives large blocks back to the system as soon as they are freed, and every step pays anew for having
their pages cleared: up to a third of a small model's step (benchmarks/RESULTS.md).
"""

from __future__ import annotations

import ctypes
import platform

# <malloc.h>
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4


def keep_freed_memory() -> bool:
    """Whether freed memory now stays with this process, to be allocated again; only glibc can be told."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
