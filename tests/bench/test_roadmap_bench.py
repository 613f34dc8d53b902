"""The speed of our own models beside each other, with nothing in the place of processes."""

from __future__ import annotations

from typing import Any

import pytest

from convnext.bench import roadmap
from convnext.bench.classification import ClassifierJob
from convnext.bench.engine.cells import Settings
from convnext.bench.engine.timing import Failed
from convnext.bench.engine.trial import Choice


class FakeWorker:
    """resnet_50 takes half a second, convnext_tiny a quarter; another model fails."""

    def __init__(self, job: ClassifierJob) -> None:
        self.job = job
        assert not job.fold

    def ask(self, order: str, *_given: Any) -> Any:
        if self.job.cell.model == "convnext_atto" and order == "slice":
            raise Failed("its process ended")
        seconds = {"resnet_50": 0.5}.get(self.job.cell.model, 0.25)
        return {"choose": Choice("NHWC", {"NHWC": seconds}, {}), "prepare": 7, "slice": seconds}.get(order)

    def close(self) -> None:
        """Nothing to end."""


def test_speeds_of_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convnext.bench.engine.turns.Worker", FakeWorker)
    models = ("resnet_50", "convnext_tiny", "convnext_atto")
    found = roadmap.measure(models, ("forward", "train"), Settings(rounds=3), batch=2)
    assert [(s.model, s.work) for s in found] == [(name, work) for work in ("forward", "train") for name in models]
    resnet, tiny, failed = found[:3]
    assert (resnet.images_per_second, tiny.images_per_second) == (4.0, 8.0)
    assert (tiny.seconds, tiny.layout, tiny.memory, tiny.noise, tiny.note) == ((0.25,) * 3, "NHWC", 7, 0.0, "")
    assert (failed.seconds, failed.note) == ((), "its process ended")
