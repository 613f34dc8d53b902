"""Fair timing on a noisy machine: every contestant runs once in every round. No torch here.

A contestant is a name and a function that runs one time slice and returns the seconds of one call. Each round has a new
random order, so whatever disturbs the machine for longer than a round disturbs all contestants alike.
"""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

TimeSlice = Callable[[], float]
"""Runs one contestant for its time slice; returns the seconds of one call."""


class Failed(Exception):
    """A contestant that cannot go on. The others do."""


class GivenUp(Failed):
    """A contestant that is too slow to wait for: one call takes longer than `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"a call takes more than {seconds:.3g} s")
        self.seconds = seconds


def error_line(error: Exception) -> str:
    """The type of an error and the first line of its message, in at most 200 characters."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}"[:200]


@dataclass(frozen=True)
class RoundTimes:
    """The seconds of one call in each round, by contestant; for those that failed, why."""

    seconds: dict[str, list[float]]
    failed: dict[str, str]


def run_rounds(
    contestants: Mapping[str, TimeSlice],
    *,
    rounds: int,
    seed: int = 0,
    report: Callable[[int, str], None] = lambda _round, _name: None,
) -> RoundTimes:
    """Runs every contestant once a round. The order depends on the seed and the round alone.

    `report` is called with the round (from 0) and the contestant's name before each slice. A contestant that raises
    `Failed` takes no further part; every other exception is passed on.
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
            report(number, name)
            try:
                seconds[name].append(contestants[name]())
            except Failed as error:
                failed[name] = str(error)
                del seconds[name]
    return RoundTimes(seconds, failed)


def timeit(call: Callable[[], object], calls: int, *, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one call: the mean of `calls` calls in a row."""
    begun = clock()
    for _ in range(calls):
        call()
    return (clock() - begun) / calls


def calls_per_slice(seconds: float, *, call: float) -> int:
    """How many calls of `call` seconds fill a slice of `seconds`; at least one."""
    return max(1, round(seconds / max(call, 1e-9)))


class Deadline:
    """A context manager that raises `error` once its block has used up `seconds`. `pause` stops the clock.

    The error is raised between two Python instructions of the main thread; an operator of torch runs to its end first.
    Windows has no such timers: there the block ends before the error is raised.
    """

    def __init__(self, seconds: float, error: Exception) -> None:
        self._left, self._error, self._since = seconds, error, 0.0
        self._timers = hasattr(signal, "setitimer")  # not on Windows
        self._previous: tuple[Any, tuple[float, float]] | None = None

    def __enter__(self) -> Deadline:
        if self._timers:
            self._previous = signal.signal(signal.SIGALRM, self._on_alarm), signal.getitimer(signal.ITIMER_REAL)
        self.resume()
        return self

    def __exit__(self, kind: object, _error: object, _where: object) -> None:
        self.pause()
        if self._previous is not None:  # an alarm that somebody else had set is set again
            signal.signal(signal.SIGALRM, self._previous[0])
            signal.setitimer(signal.ITIMER_REAL, *self._previous[1])
        if self._left <= 0 and kind is None:
            raise self._error

    def pause(self) -> None:
        """Stops the clock: what comes now is not the call's own work."""
        self._set_alarm(0.0)
        self._left -= time.perf_counter() - self._since

    def resume(self, *, at_least: float = 0.001) -> None:
        """Starts the clock again, with the time that is left and no less than `at_least` seconds.

        An alarm in 0 seconds would never ring.
        """
        self._since = time.perf_counter()
        self._set_alarm(max(self._left, at_least))

    def _set_alarm(self, seconds: float) -> None:
        if self._timers:
            signal.setitimer(signal.ITIMER_REAL, seconds)

    def _on_alarm(self, _number: int, _frame: object) -> None:
        raise self._error


def time_limit(seconds: float | None, *, extra: float = 0.0) -> contextlib.AbstractContextManager[Deadline | None]:
    """Raises GivenUp(seconds) if the block, one call, takes longer than `seconds` + `extra`. None: no limit.

    `extra` is for a first call, which takes longer than later ones. See `Deadline` for when the error is raised.
    """
    return contextlib.nullcontext() if seconds is None else Deadline(seconds + extra, GivenUp(seconds))
