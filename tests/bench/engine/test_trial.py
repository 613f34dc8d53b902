"""What goes on in a contestant's process, but for its work."""

from __future__ import annotations

import time

import pytest
import torch

from convnext.bench.engine.cells import Settings
from convnext.bench.engine.timing import GivenUp
from convnext.bench.engine.trial import BuiltCandidates, build_all, choose, first_call, set_up_process


@pytest.mark.parametrize(("device", "chosen"), [("cpu", []), ("cuda", []), ("cuda:1", [torch.device("cuda:1")])])
def test_a_numbered_device_becomes_the_current_one(device: str, chosen: list, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", found.append)
    set_up_process(Settings(device=device, threads=torch.get_num_threads()))
    assert found == chosen


@pytest.mark.parametrize(("device", "first"), [("cpu", [1, 1]), ("cuda", [2, 1, 2, 1])])
def test_what_later_calls_build_is_not_timed(device: str, first: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """On CUDA every candidate has recorded a graph, in a second call, before a call is timed."""
    made: list[int] = []

    def seconds(_call: object, calls: int, *, device: torch.device) -> float:
        made.append(calls)
        return 1.0

    monkeypatch.setattr("convnext.bench.engine.trial.seconds_per_call", seconds)
    choose(BuiltCandidates({"NCHW": lambda: None, "NHWC": lambda: None}, {}), Settings(device=device, seconds=0.5))
    assert made[: len(first)] == first
    assert len(made) == len(first) + 2  # a call fills a slice: one round more


def slow() -> None:
    time.sleep(60)


def test_a_candidate_that_takes_too_long_is_out() -> None:
    built = BuiltCandidates({"NCHW": slow, "NHWC": lambda: None}, {"odd": "RuntimeError: x"})
    choice = choose(built, Settings(seconds=0.01), max_seconds=0.05, first=lambda _call: None)
    assert (choice.best, set(choice.tried)) == ("NHWC", {"NHWC"})
    assert choice.failed == {"odd": "RuntimeError: x", "NCHW": "GivenUp: a call takes more than 0.05 s"}


def test_a_contestant_whose_candidates_all_take_too_long_is_given_up() -> None:
    with pytest.raises(GivenUp) as error:
        choose(
            BuiltCandidates({"NCHW": slow, "NHWC": slow}, {}),
            Settings(seconds=0.01),
            max_seconds=0.05,
            first=lambda _call: None,
        )
    assert error.value.seconds == 0.05


def test_a_first_call_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert first_call(lambda: time.sleep(0.1) or 7, max_seconds=0.01) == 7
    monkeypatch.setattr("convnext.bench.engine.trial.FIRST_CALL_SECONDS", 0.05)
    with pytest.raises(GivenUp) as error:
        first_call(slow, max_seconds=0.01)
    assert error.value.seconds == 0.01


def broken() -> None:
    raise RuntimeError("no such layout")


def test_one_candidate_in_order_is_enough() -> None:
    built = build_all({"NCHW": broken, "NHWC": lambda: lambda: None, "odd": lambda: broken})  # type: ignore[dict-item]
    assert (list(built.calls), built.failed) == (["NHWC", "odd"], {"NCHW": "RuntimeError: no such layout"})
    choice = choose(built, Settings(seconds=0.01))
    assert (choice.best, set(choice.failed)) == ("NHWC", {"NCHW", "odd"})
    with pytest.raises(RuntimeError, match="no such layout"):
        build_all({"NCHW": broken})  # type: ignore[dict-item]
    with pytest.raises(RuntimeError, match="no such layout"):
        choose(BuiltCandidates({"NCHW": broken}, {}), Settings(seconds=0.01))


def test_given_up_is_said_of_a_contestant_with_one_candidate_that_runs() -> None:
    with pytest.raises(GivenUp):
        choose(
            BuiltCandidates({"NCHW": broken, "NHWC": slow}, {}),
            Settings(seconds=0.01),
            max_seconds=0.01,
            first=lambda _call: None,
        )
