"""What goes on in a contestant's process, but for its work."""

from __future__ import annotations

import pytest
import torch

from convnext.bench.cells import Settings
from convnext.bench.trial import Built, choose, set_up


@pytest.mark.parametrize(("device", "chosen"), [("cpu", []), ("cuda", []), ("cuda:1", [torch.device("cuda:1")])])
def test_a_numbered_device_becomes_the_current_one(device: str, chosen: list, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", found.append)
    set_up(Settings(device=device, threads=torch.get_num_threads()))
    assert found == chosen


@pytest.mark.parametrize(("device", "first"), [("cpu", [1, 1]), ("cuda", [2, 2, 1, 1])])
def test_what_later_calls_build_is_not_timed(device: str, first: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody on CUDA has recorded a graph, in a second call, before a call is timed."""
    made: list[int] = []

    def seconds(_call: object, calls: int, *, device: torch.device) -> float:
        made.append(calls)
        return 1.0

    monkeypatch.setattr("convnext.bench.trial.seconds_of", seconds)
    choose(Built({"NCHW": lambda: None, "NHWC": lambda: None}, {}), Settings(device=device, seconds=0.5))
    assert made[: len(first)] == first
    assert len(made) == len(first) + 2  # a call fills a slice: one round more
