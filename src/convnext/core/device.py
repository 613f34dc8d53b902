"""Where to compute and in which floating type."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path
from typing import Literal

import torch

from convnext.core.errors import UserError

Precision = Literal["auto", "float32", "bfloat16", "float16"]


def pick_device(name: str = "auto") -> torch.device:
    """`auto`: the first CUDA device, else Apple's, else the CPU. Raises UserError where the named one is not there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"There is no kind of device '{name}'. Accepted: auto, cpu, cuda, cuda:0, mps.") from None
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not present.get(device.type, False) or (
        device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    ):
        raise UserError(f"The device '{name}' is not on this machine; leave the setting out to use what is.")
    return device


def pick_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """`auto`: bfloat16 where the device is fast at it, else float32; otherwise what the name says."""
    if precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]
    fast = (
        cpu_has_fast_bf16() if device.type == "cpu" else device.type == "cuda" and torch.cuda.is_bf16_supported(False)
    )
    return torch.bfloat16 if fast else torch.float32


@cache
def cpu_has_fast_bf16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware (x86: AVX-512 BF16 or AMX; Arm: the BF16 extension).

    Without it bfloat16 is emulated and slower than float32, several times for convolutions.
    """
    if platform.system() == "Darwin":
        return False  # measured nowhere yet: float32 is the safe answer
    try:
        return has_fast_bf16_flags(Path("/proc/cpuinfo").read_text())
    except OSError:
        return False


def has_fast_bf16_flags(cpuinfo: str) -> bool:
    """Reads the feature flags of the first processor in the text of Linux's /proc/cpuinfo."""
    for line in cpuinfo.splitlines():
        key, _, flags = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags.split())
    return False


def available_cpus() -> int:
    """Processors that this process may use (a container's or scheduler's share, not the machine's)."""
    if hasattr(os, "sched_getaffinity"):
        return max(len(os.sched_getaffinity(0)), 1)
    return os.cpu_count() or 1


def describe(device: torch.device) -> str:
    """The device in words, for logs and results."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({available_cpus()} processors, {torch.get_num_threads()} threads)"
