"""How many times as fast one contestant is as another, with an interval. No torch here.

Two contestants are compared within the same rounds, and the median of those ratios counts. A process can be faster or
slower for good by where its memory happens to lie, so all processes are started several times.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

Rounds = Sequence[Sequence[float]]
"""Seconds of one call: for each start of the processes, round by round."""


@dataclass(frozen=True)
class Speedup:
    """How many times as fast as another contestant ours is: the median over rounds, and its 95 % interval.

    Of a contestant that was given up only the lower end is known: `ratio` equals `low`, and `high` is infinite.
    """

    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """faster or slower if the whole interval says so, else even."""
        return "faster" if self.low > 1 else "slower" if self.high < 1 else "even"


def compare(ours: Rounds, theirs: Rounds) -> Speedup:
    """How many times as fast as theirs ours is: above 1, ours takes less time.

    Both are seconds of a call, round by round, for each start of all processes. The ratio is the median, over all
    rounds, of their time divided by ours in the same round.

    Raises:
        ValueError: if the numbers of starts or rounds differ, or there are none.
    """
    if not ours or [len(rounds) for rounds in ours] != [len(rounds) for rounds in theirs] or not all(ours):
        raise ValueError("Ratios need the same rounds on both sides, and at least one.")
    ratios = [[b / a for a, b in zip(*start, strict=True)] for start in zip(ours, theirs, strict=True)]
    low, high = bootstrap_interval(ratios)
    return Speedup(statistics.median(value for rounds in ratios for value in rounds), low, high)


def speedup_at_least(ratio: float) -> Speedup:
    """The speedup over a contestant that was given up: `ratio` or more."""
    return Speedup(ratio, ratio, math.inf)


def bootstrap_interval(groups: Rounds, *, level: float = 0.95, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The percentile bootstrap interval (Efron 1979) of the median of all values of `groups`.

    Groups are drawn with replacement, then values within each. Values of one start resemble each other more than those
    of two starts, and many rounds of one start say little about the next.
    """
    chooser = random.Random(seed)
    medians = []
    for _ in range(draws):
        drawn = chooser.choices(groups, k=len(groups))
        medians.append(statistics.median(value for group in drawn for value in chooser.choices(group, k=len(group))))
    medians.sort()
    tail = (1 - level) / 2
    return medians[round(tail * (draws - 1))], medians[round((1 - tail) * (draws - 1))]


def relative_iqr(values: Sequence[float]) -> float:
    """The noise of a measurement: the interquartile range divided by the median. 0 for fewer than two values."""
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / statistics.median(values)
