"""Results as they would be, with figures that can be reckoned in the head."""

from __future__ import annotations

from dataclasses import replace

import pytest
from samples import CELL, MACHINE, SETTINGS, measured

from convnext.bench.engine.cells import Cell
from convnext.bench.engine.results import CellResult, Entry


@pytest.fixture
def result() -> CellResult:
    """Two starts of two rounds. Ours takes 0.5 s for two images, timm 0.75 s, the matrix products 0.25 s."""
    return CellResult(
        *(CELL, SETTINGS, MACHINE, "2026-11-22T10:00:00+00:00", "plain"),
        ((0.25, 0.25), (0.25, 0.25)),
        (
            measured("convnext", "eager", (0.5, 5.0), (0.5, 0.5), memory=300 * 2**20),
            measured("timm", "eager", (0.75, 7.5), (0.75, 0.75)),
            Entry("torchvision", "eager", "not offered", note="torchvision has no convnext_atto"),
            Entry("transformers", "eager", "absent", note="pip install transformers"),
            measured("convnext", "compile", (0.4, 0.4), (0.4, 0.4), memory=None),
            Entry("timm", "compile", "failed", note="RuntimeError: no compiler | none at all"),
        ),
    )


@pytest.fixture
def other(result: CellResult) -> CellResult:
    """The same at another batch and work, where ours is slower."""
    entries = (measured("convnext", "eager", (2.0, 2.0), (2.0, 2.0)), measured("timm", "eager", (1.0, 1.0), (1.0, 1.0)))
    return replace(
        result, cell=Cell("convnext_atto", "float32", 16, "train"), entries=entries, limit=(), limit_choice=""
    )
