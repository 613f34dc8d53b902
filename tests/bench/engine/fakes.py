"""Stands in the place of a process: tests tell it what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from samples import CELL, SETTINGS

from convnext.bench.classification import ClassifierJob
from convnext.bench.engine.cells import Plan
from convnext.bench.engine.trial import Choice

PLAN = Plan((CELL,), ("convnext", "timm"), ("eager",), SETTINGS)


class FakeWorker:
    """Does as the test tells, and keeps what was asked."""

    asked: list[tuple[str, str]]
    behave: Callable[[str, str], Any]
    alive: int
    given: dict[str, float | None]
    """Seconds that a call of each may take, as the process that chose was told."""

    def __init__(self, job: Any) -> None:
        self.name = f"{job.library} {job.mode}" if isinstance(job, ClassifierJob) else "limit"
        self.max_seconds = job.max_seconds
        FakeWorker.alive += 1

    def ask(self, order: str, *given: Any) -> Any:
        FakeWorker.asked.append((self.name, order))
        if order == "choose":
            FakeWorker.given[self.name] = self.max_seconds
        told = FakeWorker.behave(self.name, order)
        if told is not None:
            return told
        if order == "prepare":
            assert given == (Choice("NHWC", {"NHWC": 1.0}, {"NCHW": "RuntimeError: x"}),)
        answers = {"check": None, "choose": Choice("NHWC", {"NHWC": 1.0}, {"NCHW": "RuntimeError: x"}), "prepare": 7}
        return answers.get(order, 2.0)

    def close(self) -> None:
        FakeWorker.alive -= 1
