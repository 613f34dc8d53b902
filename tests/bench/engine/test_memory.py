"""The most memory in use at once, where Linux tells it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from convnext.bench.engine import memory
from convnext.bench.engine.trial import build_and_measure_memory

CPU = torch.device("cpu")
MB = 2**20
linux = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists() or not memory.reset_peak(CPU), reason="needs Linux's peak of a process"
)


@pytest.mark.slow
@linux
def test_peak_of_what_is_freed_again() -> None:
    before = memory.current_bytes(CPU)
    assert before is not None
    assert memory.reset_peak(CPU)
    torch.ones(100 * MB // 4).sum()
    most, after = memory.peak_bytes(CPU), memory.current_bytes(CPU)
    assert most is not None
    assert after is not None
    assert 95 * MB < most - before < 130 * MB
    assert abs(after - before) < 20 * MB
    memory.reset_peak(CPU)
    again = memory.peak_bytes(CPU)
    assert again is not None
    assert again < before + 30 * MB  # it has been forgotten


@pytest.mark.slow
@linux
def test_of_a_contestant() -> None:
    """80 MB of weights stay, 40 MB come and go with each call, and 160 MB that building took are not counted."""

    def build():
        torch.ones(160 * MB // 4).sum()
        weights = torch.ones(80 * MB // 4)
        return lambda: (weights[: 40 * MB // 4] + 1).sum()

    _, most = build_and_measure_memory(build, device=CPU)
    assert most is not None
    assert 115 * MB < most < 150 * MB


@pytest.mark.slow
def test_where_it_cannot_be_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "status")
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "none" / "clear_refs")
    assert memory.current_bytes(CPU) is None
    assert memory.peak_bytes(CPU) is None
    assert not memory.reset_peak(CPU)
    call, most = build_and_measure_memory(lambda: lambda: 3, device=CPU)
    assert (call(), most) == (3, None)
