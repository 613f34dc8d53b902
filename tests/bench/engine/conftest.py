"""Fakes in the place of processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes import FakeWorker

from convnext.bench.engine import cell, run


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeWorker]]:
    monkeypatch.setattr(cell, "Worker", FakeWorker)
    monkeypatch.setattr(run, "macs_per_second", lambda _settings: 1e11)
    FakeWorker.asked, FakeWorker.behave, FakeWorker.alive, FakeWorker.given = [], lambda _name, _order: None, 0, {}
    yield FakeWorker
    assert FakeWorker.alive == 0  # whatever happened, no process is left
