"""Rounds, medians, ratios and their intervals, computed by hand with a clock that is not real."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable

import pytest

from convnext.bench.timing import (
    Failed,
    GivenUp,
    at_least,
    at_most,
    bootstrap_interval,
    calls_in,
    compare,
    in_a_line,
    play,
    spread,
    timed,
)


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
    assert timed(lambda: clock.wait(next(waits)), 3, clock=clock) == 0.75
    assert next(waits) == 99.0  # no call more than it was told


@pytest.mark.parametrize(
    ("seconds", "call", "calls"), [(1.0, 0.3, 3), (1.0, 0.1, 10), (1.0, 7.0, 1), (0.5, 0.34, 1), (1.0, 0.0, 10**9)]
)
def test_calls_that_fill_a_slice(seconds: float, call: float, calls: int) -> None:
    assert calls_in(seconds, call=call) == calls


def test_everybody_runs_once_a_round_in_an_order_drawn_anew() -> None:
    ran: list[str] = []
    names = ["a", "b", "c", "d"]

    def contestant(name: str, seconds: float) -> Callable[[], float]:
        def run() -> float:
            ran.append(name)
            return seconds + len(ran)

        return run

    heard: list[tuple[int, str]] = []
    played = play(
        {name: contestant(name, 1000.0) for name in names},
        rounds=50,
        seed=3,
        heard=lambda number, name: heard.append((number, name)),
    )
    rounds = [ran[i : i + 4] for i in range(0, len(ran), 4)]
    assert len(rounds) == 50
    assert all(sorted(order) == names for order in rounds)
    assert heard == [(number, name) for number, order in enumerate(rounds) for name in order]
    firsts = Counter(order[0] for order in rounds)
    assert set(firsts) == set(names)
    assert max(firsts.values()) < 25  # nobody has the first place to itself
    for name in names:  # the seconds of a round stand at the round's place
        assert played.seconds[name] == [1001.0 + 4 * n + order.index(name) for n, order in enumerate(rounds)]


def test_the_order_is_a_function_of_the_seed() -> None:
    def orders(seed: int) -> list[str]:
        ran: list[str] = []
        play({n: lambda n=n: (ran.append(n), 1.0)[1] for n in "abcdef"}, rounds=4, seed=seed)
        return ran

    assert orders(1) == orders(1)
    assert orders(1) != orders(2)


def test_who_fails_is_out_and_the_others_go_on() -> None:
    calls = Counter[str]()

    def good() -> float:
        calls["good"] += 1
        return 1.0

    def bad() -> float:
        calls["bad"] += 1
        if calls["bad"] == 2:
            raise Failed("its process ended")
        return 1.0

    played = play({"good": good, "bad": bad}, rounds=5)
    assert calls == {"good": 5, "bad": 2}
    assert played.seconds == {"good": [1.0] * 5}
    assert played.failed == {"bad": "its process ended"}


def test_other_errors_are_not_swallowed() -> None:
    def broken() -> float:
        raise KeyError("a mistake of ours")

    with pytest.raises(KeyError):
        play({"broken": broken}, rounds=1)


def test_ratios_are_of_the_same_round() -> None:
    """A machine that slows down tenfold for a round slows both: the ratio of medians would be off, theirs is not."""
    ours = [[1.0, 10.0, 10.0], [1.0, 1.0]]
    theirs = [[1.5, 15.0, 15.0], [15.0, 1.5]]  # in the fourth round somebody disturbed them alone
    assert compare(ours, theirs).ratio == 1.5
    assert compare(theirs, ours).ratio == pytest.approx(1 / 1.5)


def test_the_median_of_an_even_number_of_rounds() -> None:
    assert compare([[1.0, 1.0], [1.0, 1.0]], [[1.0, 2.0], [4.0, 8.0]]).ratio == 3.0


def test_interval_of_one_start() -> None:
    assert bootstrap_interval([[2.0]]) == (2.0, 2.0)
    assert bootstrap_interval([[2.0] * 9]) == (2.0, 2.0)
    low, high = bootstrap_interval([[1.0, 2.0, 3.0, 4.0, 100.0]])
    assert 1.0 <= low < 3.0 < high <= 100.0
    wide = bootstrap_interval([[1.0, 2.0, 3.0, 4.0, 5.0]], level=0.99)
    narrow = bootstrap_interval([[1.0, 2.0, 3.0, 4.0, 5.0]], level=0.5)
    assert wide[0] < narrow[0] <= 3.0 <= narrow[1] < wide[1]
    # Of three values the median of a draw is the lowest where two or three are: 7 of 27 draws, more than 2.5 %.
    assert bootstrap_interval([[1.0, 2.0, 3.0]]) == (1.0, 3.0)


def test_many_rounds_of_one_start_say_little_about_the_next() -> None:
    """Three starts of 0.9, 1.0 and 1.2, whose rounds hardly differ: all from one start is 1 draw in 27 for each."""
    starts = [[0.9] * 20, [1.0] * 20, [1.2] * 20]
    assert bootstrap_interval(starts) == (0.9, 1.2)
    low, high = bootstrap_interval([[value for start in starts for value in start]])
    assert low > 0.9 or high < 1.2  # as if all rounds were independent


def test_interval_covers_the_median_about_as_often_as_it_says() -> None:
    """Over 400 samples of 15 draws each from a skewed distribution whose median is 1."""
    generator = random.Random(5)
    samples = [[generator.lognormvariate(0.0, 0.3) for _ in range(15)] for _ in range(400)]
    intervals = [bootstrap_interval([sample], draws=300) for sample in samples]
    covered = sum(low <= 1.0 <= high for low, high in intervals) / 400
    assert 0.90 < covered < 0.99


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        ([1.0, 1.1, 1.0], [1.2, 1.3, 1.25], "faster"),
        ([1.2, 1.3, 1.25], [1.0, 1.1, 1.0], "slower"),
        ([1.0, 1.1, 0.9], [1.05, 1.0, 0.95], "even"),
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], "even"),
    ],
)
def test_verdict(ours: list[float], theirs: list[float], verdict: str) -> None:
    assert compare([ours], [theirs]).verdict == verdict


@pytest.mark.parametrize(
    ("ours", "theirs"), [([], []), ([[]], [[]]), ([[1.0]], [[1.0, 2.0]]), ([[1.0, 2.0]], [[1.0], [2.0]])]
)
def test_unequal_rounds_are_refused(ours: list[list[float]], theirs: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="same rounds"):
        compare(ours, theirs)


def test_spread() -> None:
    assert spread([1.0]) == 0.0
    assert spread([2.0, 2.0, 2.0]) == 0.0
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2 / 3)  # quartiles 2 and 4, median 3


def test_an_error_in_a_line() -> None:
    assert in_a_line(ValueError("\n  first\nsecond")) == "ValueError: first"
    assert in_a_line(RuntimeError()) == "RuntimeError: "
    assert len(in_a_line(RuntimeError("x" * 1000))) == 200


def test_a_call_that_takes_too_long_is_interrupted() -> None:
    usual, left, begun = signal.getsignal(signal.SIGALRM), alarm(), time.monotonic()
    with pytest.raises(GivenUp, match=r"^a call takes more than 0.05 s$") as error, at_most(0.05, cold=0.1):
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
    with at_most(seconds, cold=10.0):
        assert alarm() == pytest.approx(before if within is None else within, abs=60)
    assert alarm() == pytest.approx(before, abs=60)
    with pytest.raises(KeyError), at_most(seconds):  # its own errors are its own
        raise KeyError
    assert alarm() == pytest.approx(before, abs=60)


def test_without_timers_a_call_ends_before_it_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "setitimer")
    ended = []

    def call() -> None:
        with at_most(0.01):
            time.sleep(0.02)
            ended.append(True)

    with pytest.raises(GivenUp):
        call()
    assert ended == [True]


@pytest.mark.parametrize(("ratio", "verdict"), [(3.0, "faster"), (0.9, "even")])
def test_what_is_known_of_one_that_was_given_up(ratio: float, verdict: str) -> None:
    found = at_least(ratio)
    assert (found.ratio, found.low, found.verdict) == (ratio, ratio, verdict)
