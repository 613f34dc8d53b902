"""What a run might have measured."""

from __future__ import annotations

from convnext.bench.engine.cells import Cell, Settings
from convnext.bench.engine.results import Entry, Machine, Trial

MACHINE = Machine("A Processor", 2, 16.0, "Linux-6", "3.11.7", ("torch 2.15.0", "convnext 0.1.0", "timm 1.0"))
CELL = Cell("convnext_atto", "float32", 2, "forward")
SETTINGS = Settings(size=32, seconds=0.01, starts=2, rounds=2, threads=1)


def measured(library: str, mode: str, *seconds: tuple[float, ...], memory: int | None = 2**20) -> Entry:
    tried = (Trial("NCHW", seconds=9.0), Trial("NHWC", seconds=0.5))
    return Entry(library, mode, "measured", choice="NHWC", tried=tried, seconds=seconds, memory=memory)
