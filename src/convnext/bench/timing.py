"""Fair timing on a noisy machine: rounds in which everybody runs once, and what may be concluded from them.

A contestant is a name and a callable that runs one time slice and returns the seconds of one call. In every round each
runs once, in an order drawn anew: whatever disturbs the machine for longer than a round disturbs all alike. Two
contestants are compared round by round, and the median of those ratios is what is reported. Where a process happens to
lie in memory speeds it up or slows it down for good, so all are started afresh several times. No torch here.
"""

from __future__ import annotations

import contextlib
import math
import random
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

Slice = Callable[[], float]
Rounds = Sequence[Sequence[float]]
"""Seconds of a call: for each start of the processes, round by round."""


class Failed(Exception):
    """A contestant that cannot go on; the others do."""


class GivenUp(Failed):
    """A contestant that is not waited for: a call of it takes longer than `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"a call takes more than {seconds:.3g} s")
        self.seconds = seconds


def in_a_line(error: Exception) -> str:
    """The kind of an error and the first line of what it says."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}"[:200]


@dataclass(frozen=True)
class Played:
    """Seconds of one call in each round, for each contestant that ran to the end; why the others did not."""

    seconds: dict[str, list[float]]
    failed: dict[str, str]


@dataclass(frozen=True)
class Comparison:
    """How many times as fast as another one contestant is: the median over rounds, and its 95 % interval.

    Where the other was given up, all that is known is the interval's lower end, which the ratio is then, too.
    """

    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """faster or slower where the whole interval says so, else even."""
        return "faster" if self.low > 1 else "slower" if self.high < 1 else "even"


def play(
    contestants: Mapping[str, Slice],
    *,
    rounds: int,
    seed: int = 0,
    heard: Callable[[int, str], None] = lambda _round, _name: None,
) -> Played:
    """Runs every contestant once a round, in an order that is a pure function of the seed and the round.

    `heard` is told the round (from 0) and the contestant before it runs. One that raises `Failed` is out from there on.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    failed: dict[str, str] = {}
    shuffler = random.Random(seed)
    for number in range(rounds):
        order = list(contestants)
        shuffler.shuffle(order)
        for name in order:
            if name in failed:
                continue
            heard(number, name)
            try:
                seconds[name].append(contestants[name]())
            except Failed as error:
                failed[name] = str(error)
                del seconds[name]
    return Played(seconds, failed)


def timed(call: Callable[[], object], calls: int, *, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one call, as the mean of `calls` in a row; where a call takes longer than all else, calls is 1."""
    begun = clock()
    for _ in range(calls):
        call()
    return (clock() - begun) / calls


@contextlib.contextmanager
def at_most(seconds: float | None, *, cold: float = 0.0) -> Iterator[None]:
    """Raises GivenUp where the block, a call, takes more than `seconds`; None: it may take any time.

    `cold`: what it may take beyond them for being the first. It is interrupted between two of Python's instructions
    (an operator of torch is not); where the system has no timers, it ends first.
    """
    if seconds is None:
        yield
        return
    begun, late = time.perf_counter(), GivenUp(seconds)
    with _alarm(seconds + cold, late):
        yield
    if time.perf_counter() - begun > seconds + cold:
        raise late


@contextlib.contextmanager
def _alarm(seconds: float, error: Exception) -> Iterator[None]:
    """Raises `error` within the block after so many seconds, in the main thread of systems that have such timers."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def ring(_number: int, _frame: object) -> None:
        raise error

    usual = signal.signal(signal.SIGALRM, ring)
    others = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, usual)
        signal.setitimer(signal.ITIMER_REAL, *others)  # whoever had set it goes on


def calls_in(seconds: float, *, call: float) -> int:
    """How many calls of `call` seconds fill a slice; at least one."""
    return max(1, round(seconds / max(call, 1e-9)))


def compare(ours: Rounds, theirs: Rounds) -> Comparison:
    """How many times as fast as theirs ours is: above 1, ours takes less time.

    Both are seconds of a call, round by round, for each start of all processes. The ratio is the median over all
    rounds of their time over ours in the same round.

    Raises:
        ValueError: for unequal numbers of starts or rounds, or none.
    """
    if not ours or [len(rounds) for rounds in ours] != [len(rounds) for rounds in theirs] or not all(ours):
        raise ValueError("Ratios need the same rounds on both sides, and at least one.")
    ratios = [[b / a for a, b in zip(*start, strict=True)] for start in zip(ours, theirs, strict=True)]
    low, high = bootstrap_interval(ratios)
    return Comparison(statistics.median(value for rounds in ratios for value in rounds), low, high)


def at_least(ratio: float) -> Comparison:
    """Of a contestant that was given up: ours is that many times as fast, or more."""
    return Comparison(ratio, ratio, math.inf)


def bootstrap_interval(groups: Rounds, *, level: float = 0.95, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The percentile bootstrap interval (Efron 1979) of the median of all values of `groups`.

    Groups are drawn with replacement, then values within each: values of one start have more in common than those of
    two, and many rounds of one start say little about the next.
    """
    chooser = random.Random(seed)
    medians = []
    for _ in range(draws):
        drawn = chooser.choices(groups, k=len(groups))
        medians.append(statistics.median(value for group in drawn for value in chooser.choices(group, k=len(group))))
    medians.sort()
    tail = (1 - level) / 2
    return medians[round(tail * (draws - 1))], medians[round((1 - tail) * (draws - 1))]


def spread(values: Sequence[float]) -> float:
    """How far rounds lie apart, as a share of their median: the range between the quartiles. A measure of noise."""
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / statistics.median(values)
