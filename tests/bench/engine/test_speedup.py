"""Medians, ratios and their intervals, computed by hand."""

from __future__ import annotations

import random

import pytest

from convnext.bench.engine.speedup import bootstrap_interval, compare, relative_iqr, speedup_at_least


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
    assert relative_iqr([1.0]) == 0.0
    assert relative_iqr([2.0, 2.0, 2.0]) == 0.0
    assert relative_iqr([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2 / 3)  # quartiles 2 and 4, median 3


@pytest.mark.parametrize(("ratio", "verdict"), [(3.0, "faster"), (0.9, "even")])
def test_what_is_known_of_one_that_was_given_up(ratio: float, verdict: str) -> None:
    found = speedup_at_least(ratio)
    assert (found.ratio, found.low, found.verdict) == (ratio, ratio, verdict)
