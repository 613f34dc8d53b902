"""Fakes in the place of processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes import FakeWorker

from convnext.bench.engine import cell


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeWorker]]:
    monkeypatch.setattr(cell, "Worker", FakeWorker)
    FakeWorker.asked, FakeWorker.behave, FakeWorker.alive, FakeWorker.given = [], lambda _name, _order: None, 0, {}
    yield FakeWorker
    assert FakeWorker.alive == 0  # whatever happened, nobody is left
