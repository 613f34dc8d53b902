"""Memory of the CPU: a process keeps the blocks it frees. Standard library only."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # glibc's malloc.h


@cache
def keep_freed_memory() -> bool:
    """Makes this process keep the memory that it frees, from now on. Returns whether it could (Linux with glibc).

    A training step frees and allocates the same large blocks again and again. By default they go back to the system,
    which hands them out again as new pages of 4 KB, with one page fault each: this took a third of ConvNeXt-T's step
    on two cores (docs/results/bench.md). The price is that the process never shrinks. An allocator, or settings of
    one, chosen in the environment are left alone.
    """
    chosen = any(name in os.environ for name in ("GLIBC_TUNABLES", "LD_PRELOAD", "MALLOC_TRIM_THRESHOLD_"))
    if chosen or not sys.platform.startswith("linux") or "CS_GNU_LIBC_VERSION" not in os.confstr_names:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    # -1: the heap's end is never given back. 0: no block is mapped outside the heap.
    return mallopt(_TRIM_THRESHOLD, -1) == 1 and mallopt(_MMAP_MAX, 0) == 1
