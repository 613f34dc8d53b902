"""Freed memory is kept where that can be asked for, in a process of its own: it cannot be taken back."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

PROGRAM = """
import resource, sys
import torch
from convnext.core.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        torch.ones(16_000_000)  # 64 MB: more than glibc ever keeps of its own accord
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

kept = keep_freed_memory() if sys.argv[1] == "keep" else False
faults(), faults(), faults(), faults()  # until the heap has grown
print(kept, faults())
"""


def run(word: str, **env: str) -> tuple[bool, int]:
    usual = {name: value for name, value in os.environ.items() if name not in ("GLIBC_TUNABLES", "LD_PRELOAD")}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, word], env={**usual, **env}, capture_output=True, text=True, check=True
    )
    kept, faults = result.stdout.split()
    return kept == "True", int(faults)


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or "CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="glibc alone"
)
def test_large_blocks_are_used_again():
    asked, kept = run("keep")
    assert asked
    assert kept < 1000 < run("leave")[1]  # of three times 15,625 pages


def test_whoever_chose_an_allocator_keeps_it():
    assert run("keep", GLIBC_TUNABLES="glibc.malloc.trim_threshold=131072")[0] is False
