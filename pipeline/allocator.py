"""Tell the C library to keep freed memory, because the next step or batch of text needs the same sizes again.

glibc otherwise returns large blocks to the system as soon as they are freed, and every step pays again for having
their pages cleared: up to a third of a small model's step, a quarter of the time that turning bytes into shards takes
(benchmarks/LOG.md).
"""

from __future__ import annotations

import ctypes
import platform
from functools import cache

# <malloc.h>
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4


@cache
def keep_freed_memory() -> bool:
    """Keep freed memory in this process from now on; return whether that worked (only glibc can do it)."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
