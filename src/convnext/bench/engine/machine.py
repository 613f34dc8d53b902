"""The machine that measures, and the libraries that are installed on it."""

from __future__ import annotations

import os
import platform
import re
import sys
from importlib import metadata
from pathlib import Path

import torch

from convnext.bench.engine.cells import LIBRARIES, Library
from convnext.bench.engine.results import Machine
from convnext.core import device

INSTALL = {name: f"pip install {name}" for name in ("timm", "torchvision", "transformers")}
"""How to install each library that ours is compared with."""


def installed_version(library: Library) -> str | None:
    """The version of an installed library, found without importing it; None if it is absent."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def this_machine(device_name: str) -> Machine:
    """This machine, with the name of that device, and the versions of all libraries that could take part."""
    versions = [f"torch {torch.__version__}"]
    found = {name: installed_version(name) for name in LIBRARIES}
    versions += [f"{name} {version}" for name, version in found.items() if version is not None]
    return Machine(
        processor=_processor(torch.device(device_name)),
        processors=device.available_cpus(),
        memory_gb=round(_memory_bytes() / 2**30, 1),
        system=platform.platform(terse=True),
        python=platform.python_version(),
        libraries=tuple(versions),
    )


def _processor(where: torch.device) -> str:
    if where.type == "cuda":
        return device.describe(where)
    try:
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not on Windows
        return 0


def processors_in_use() -> float:
    """How many processors all programs together kept busy in the last minute; 0 where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def command_line() -> str:
    """The command that runs now, to be repeated."""
    return " ".join(["convnext", *sys.argv[1:]])
