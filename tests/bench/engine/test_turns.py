"""Contestants that take turns, one process at a time."""

from __future__ import annotations

from typing import Any

import pytest

from convnext.bench.engine.timing import Failed
from convnext.bench.engine.trial import Choice
from convnext.bench.engine.turns import measure_in_turns
from convnext.bench.engine.worker import Job


class _FakeJob:
    """Says how long it takes; fails at an order where told to."""

    def __init__(self, seconds: float, fails: str = "") -> None:
        self.seconds, self.fails = seconds, fails

    def check(self) -> None:
        return None

    def build(self) -> None:
        return None

    def choose(self) -> Choice:
        return Choice("a", {"a": self.seconds}, {})

    def prepare(self, choice: Choice) -> int | None:
        return int(1000 * choice.tried["a"])

    def slice(self) -> float:
        return self.seconds


class _FakeWorker:
    """Does what a `Worker` does, without a process; counts those that are open."""

    alive = most = 0

    def __init__(self, job: _FakeJob) -> None:
        self.job = job
        _FakeWorker.alive += 1
        _FakeWorker.most = max(_FakeWorker.most, _FakeWorker.alive)

    def ask(self, order: str, *given: Any) -> Any:
        if order == self.job.fails:
            raise Failed("told to")
        return getattr(self.job, order)(*given)

    def close(self) -> None:
        _FakeWorker.alive -= 1


def test_taking_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convnext.bench.engine.turns.Worker", _FakeWorker)
    report: list[int] = []
    jobs: dict[str, Job] = {
        "a": _FakeJob(0.5),
        "b": _FakeJob(0.25),
        "c": _FakeJob(1.0, "check"),
        "d": _FakeJob(1.0, "slice"),
    }
    found = measure_in_turns(jobs, rounds=3, seed=0, report=lambda done, _text: report.append(done))
    assert found["a"].seconds == (0.5, 0.5, 0.5)
    assert (found["b"].seconds, found["b"].memory) == ((0.25, 0.25, 0.25), 250)
    for name in ("c", "d"):
        assert (found[name].seconds, found[name].memory, found[name].failed) == ((), None, "told to")
    assert (_FakeWorker.alive, _FakeWorker.most) == (0, 1)
    assert report == sorted(report)
    assert report[-1] < len(jobs) * 4
