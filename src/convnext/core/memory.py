"""The processor's memory: freed blocks kept for the next step. Standard library alone."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # glibc's malloc.h


@cache
def keep_freed_memory() -> bool:
    """Has this process keep the memory that it frees, for good; whether that could be done (Linux with glibc).

    A training step frees and asks for the same large blocks again and again. By default they go back to the system,
    which hands them out as fresh pages, 4 KB and one fault at a time: a third of ConvNeXt-T's step on two cores
    (docs/results/bench.md). The price is that the process never grows smaller. Whoever has chosen an allocator or its
    settings by environment keeps them.
    """
    chosen = any(name in os.environ for name in ("GLIBC_TUNABLES", "LD_PRELOAD", "MALLOC_TRIM_THRESHOLD_"))
    if chosen or not sys.platform.startswith("linux") or "CS_GNU_LIBC_VERSION" not in os.confstr_names:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    # Nothing is given back at the heap's end (-1: no threshold), and nothing is mapped beside the heap.
    return mallopt(_TRIM_THRESHOLD, -1) == 1 and mallopt(_MMAP_MAX, 0) == 1
