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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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


class Patience:
    """The time that is left to a call, as a context: where it runs out, `error` is raised; `pause` stops its clock."""

    def __init__(self, seconds: float, error: Exception) -> None:
        self._left, self._error, self._since = seconds, error, 0.0
        self._timers = hasattr(signal, "setitimer")  # not on Windows
        self._others: tuple[Any, tuple[float, float]] | None = None

    def __enter__(self) -> Patience:
        if self._timers:
            self._others = signal.signal(signal.SIGALRM, self._ring), signal.getitimer(signal.ITIMER_REAL)
        self.resume()
        return self

    def __exit__(self, kind: object, _error: object, _where: object) -> None:
        self.pause()
        if self._others is not None:  # whoever had set an alarm has it again
            signal.signal(signal.SIGALRM, self._others[0])
            signal.setitimer(signal.ITIMER_REAL, *self._others[1])
        if self._left <= 0 and kind is None:
            raise self._error

    def pause(self) -> None:
        """What comes now is not the call's own work."""
        self._wake(0.0)
        self._left -= time.perf_counter() - self._since

    def resume(self, *, soon: float = 0.001) -> None:
        """The call goes on, for as long as is left to it and `soon` seconds at least: 0 would be for ever."""
        self._since = time.perf_counter()
        self._wake(max(self._left, soon))

    def _wake(self, seconds: float) -> None:
        if self._timers:
            signal.setitimer(signal.ITIMER_REAL, seconds)

    def _ring(self, _number: int, _frame: object) -> None:
        raise self._error


def at_most(seconds: float | None, *, cold: float = 0.0) -> contextlib.AbstractContextManager[Patience | None]:
    """Raises GivenUp where the block, a call, takes more than `seconds`; None: it may take any time.

    `cold`: what it may take beyond them for being the first. It is interrupted between two of Python's instructions
    (an operator of torch is not), in the main thread; where the system has no timers, it ends first.
    """
    return contextlib.nullcontext() if seconds is None else Patience(seconds + cold, GivenUp(seconds))


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
