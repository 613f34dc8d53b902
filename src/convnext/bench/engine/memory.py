"""How much memory a process needs at most while something runs.

On CUDA torch's allocator tells. On the CPU it is Linux's account of the process, whose peak can be reset, so memory for
compiling or for choosing a candidate does not count. Other systems cannot reset it, and nothing is reported there.
"""

from __future__ import annotations

import ctypes
import gc
import re
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def current_bytes(device: torch.device) -> int | None:
    """Bytes in use now, after all free memory went back to the system. None where that is not known."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        return torch.cuda.memory_allocated(device)
    try:
        ctypes.CDLL(None).malloc_trim(0)  # glibc: freed memory back to the system
    except (OSError, AttributeError):
        return None
    return _from_status("VmRSS")


def reset_peak(device: torch.device) -> bool:
    """Sets the peak to what is in use now. False where that is not possible."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        _CLEAR.write_text("5")  # proc(5): resets the peak resident set size
    except OSError:
        return False
    return True


def peak_bytes(device: torch.device) -> int | None:
    """The most bytes in use at once since `reset_peak`. None where that is not known."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device)
    return _from_status("VmHWM")


def _from_status(key: str) -> int | None:
    try:
        found = re.search(rf"{key}:\s+(\d+) kB", _STATUS.read_text())
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None
