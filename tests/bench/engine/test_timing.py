"""Rounds and deadlines, with a clock that is not real where one is needed."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable

import pytest

from convnext.bench.engine.timing import Failed, GivenUp, calls_per_slice, error_line, run_rounds, time_limit, timeit


class Clock:
    """Tells the time that `wait` has let pass."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


def test_timed_is_the_mean_of_its_calls() -> None:
    clock = Clock()
    waits = iter([0.25, 0.5, 1.5, 99.0])
    assert timeit(lambda: clock.wait(next(waits)), 3, clock=clock) == 0.75
    assert next(waits) == 99.0  # no call more than it was told


@pytest.mark.parametrize(
    ("seconds", "call", "calls"), [(1.0, 0.3, 3), (1.0, 0.1, 10), (1.0, 7.0, 1), (0.5, 0.34, 1), (1.0, 0.0, 10**9)]
)
def test_calls_that_fill_a_slice(seconds: float, call: float, calls: int) -> None:
    assert calls_per_slice(seconds, call=call) == calls


def test_every_contestant_runs_once_a_round_in_a_new_order() -> None:
    ran: list[str] = []
    names = ["a", "b", "c", "d"]

    def contestant(name: str, seconds: float) -> Callable[[], float]:
        def run() -> float:
            ran.append(name)
            return seconds + len(ran)

        return run

    report: list[tuple[int, str]] = []
    played = run_rounds(
        {name: contestant(name, 1000.0) for name in names},
        rounds=50,
        seed=3,
        report=lambda number, name: report.append((number, name)),
    )
    rounds = [ran[i : i + 4] for i in range(0, len(ran), 4)]
    assert len(rounds) == 50
    assert all(sorted(order) == names for order in rounds)
    assert report == [(number, name) for number, order in enumerate(rounds) for name in order]
    firsts = Counter(order[0] for order in rounds)
    assert set(firsts) == set(names)
    assert max(firsts.values()) < 25  # no contestant is always first
    for name in names:  # the seconds of a round stand at the round's place
        assert played.seconds[name] == [1001.0 + 4 * n + order.index(name) for n, order in enumerate(rounds)]


def test_the_order_is_a_function_of_the_seed() -> None:
    def orders(seed: int) -> list[str]:
        ran: list[str] = []
        run_rounds({n: lambda n=n: (ran.append(n), 1.0)[1] for n in "abcdef"}, rounds=4, seed=seed)
        return ran

    assert orders(1) == orders(1)
    assert orders(1) != orders(2)


def test_a_contestant_that_fails_is_out_and_the_others_go_on() -> None:
    calls = Counter[str]()

    def good() -> float:
        calls["good"] += 1
        return 1.0

    def bad() -> float:
        calls["bad"] += 1
        if calls["bad"] == 2:
            raise Failed("its process ended")
        return 1.0

    played = run_rounds({"good": good, "bad": bad}, rounds=5)
    assert calls == {"good": 5, "bad": 2}
    assert played.seconds == {"good": [1.0] * 5}
    assert played.failed == {"bad": "its process ended"}


def test_other_errors_are_not_swallowed() -> None:
    def broken() -> float:
        raise KeyError("a mistake of ours")

    with pytest.raises(KeyError):
        run_rounds({"broken": broken}, rounds=1)


def test_an_error_in_a_line() -> None:
    assert error_line(ValueError("\n  first\nsecond")) == "ValueError: first"
    assert error_line(RuntimeError()) == "RuntimeError: "
    assert len(error_line(RuntimeError("x" * 1000))) == 200


def test_a_call_that_takes_too_long_is_interrupted() -> None:
    usual, left, begun = signal.getsignal(signal.SIGALRM), alarm(), time.monotonic()
    with pytest.raises(GivenUp, match=r"^a call takes more than 0.05 s$") as error, time_limit(0.05, extra=0.1):
        time.sleep(60)
    assert error.value.seconds == 0.05  # without what a first call may take beyond
    assert 0.15 <= time.monotonic() - begun < 30
    assert signal.getsignal(signal.SIGALRM) == usual
    assert alarm() == pytest.approx(left, abs=60)


def alarm() -> float:
    """Seconds until the process is woken, as one that watches over a test may have asked for; 0: it is not."""
    return signal.getitimer(signal.ITIMER_REAL)[0]


@pytest.mark.parametrize(("seconds", "within"), [(None, None), (6000.0, 6010.0)])
def test_a_call_that_is_fast_enough_leaves_no_alarm(seconds: float | None, within: float | None) -> None:
    before = alarm()
    with time_limit(seconds, extra=10.0):
        assert alarm() == pytest.approx(before if within is None else within, abs=60)
    assert alarm() == pytest.approx(before, abs=60)
    with pytest.raises(KeyError), time_limit(seconds):  # its own errors are its own
        raise KeyError
    assert alarm() == pytest.approx(before, abs=60)


def test_without_timers_a_call_ends_before_it_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "setitimer")
    ended = []

    def call() -> None:
        with time_limit(0.01):
            time.sleep(0.02)
            ended.append(True)

    with pytest.raises(GivenUp):
        call()
    assert ended == [True]
