"""The device to compute on, and the floating-point type to compute in."""

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
    """The device of that name. `auto`: CUDA (this process's local rank) if there is any, else Apple's MPS, else CPU.

    Raises UserError for an unknown name and for a device that this machine does not have.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"Unknown device '{name}'. Accepted: auto, cpu, cuda, cuda:0, mps.") from None
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not present.get(device.type, False) or (
        device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    ):
        raise UserError(
            f"The device '{name}' is not on this machine. Leave the setting out to use the best one there is."
        )
    return device


def pick_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The type of that name. `auto`: bfloat16 on devices that are fast at it, else float32."""
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
    """Whether the first processor in the text of Linux's /proc/cpuinfo has hardware bfloat16."""
    for line in cpuinfo.splitlines():
        key, _, flags = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags.split())
    return False


def available_cpus() -> int:
    """The number of processors that this process may use: a container's or scheduler's share of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return max(len(os.sched_getaffinity(0)), 1)
    return os.cpu_count() or 1


def describe(device: torch.device) -> str:
    """A description of the device for logs and results."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({available_cpus()} processors, {torch.get_num_threads()} threads)"
