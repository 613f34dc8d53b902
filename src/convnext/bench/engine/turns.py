"""Contestants that take turns with one process alive at a time, so that any number of them fits into memory.

Every round starts all of them again, in a new random order. So a round is a start, and no contestant finds what another
left behind.
"""

from __future__ import annotations

import contextlib
import random
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from convnext.bench.engine.timing import Failed
from convnext.bench.engine.trial import Choice
from convnext.bench.engine.worker import Job, Worker


@dataclass(frozen=True)
class Measurement:
    """What was measured of one contestant."""

    checked: Any = None
    """What its check returned."""
    choice: Choice | None = None
    seconds: tuple[float, ...] = ()
    """Of one call, round by round; empty if it failed."""
    memory: int | None = None
    """Bytes that it adds to its process at most while it runs: the median over rounds."""
    failed: str = ""
    """Why it failed."""


def measure_in_turns(
    jobs: Mapping[str, Job],
    *,
    rounds: int,
    seed: int,
    check: bool = True,
    report: Callable[[int, str], None] = lambda _done, _text: None,
) -> dict[str, Measurement]:
    """Checks all jobs, lets each choose its best candidate, then runs one slice of each in every round.

    A contestant that fails takes no further part.

    Args:
        jobs: by contestant.
        rounds: how many.
        seed: of the order in each round.
        check: whether jobs are checked.
        report: called with the number of processes that have ended, out of len(jobs) * (1 + rounds), and what is next.

    Raises:
        UserError: if the check of a job does; then nothing is timed.
    """
    checked: dict[str, Any] = {}
    choices: dict[str, Choice] = {}
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    memory: dict[str, list[int]] = {name: [] for name in jobs}
    failed: dict[str, str] = {}
    for number, (name, job) in enumerate(jobs.items()):
        report(number, f"{'checking and ' if check else ''}choosing for {name}")
        try:
            with contextlib.closing(Worker(job)) as worker:
                checked[name] = worker.ask("check") if check else None
                worker.ask("build")
                choices[name] = worker.ask("choose")
        except Failed as error:
            failed[name] = str(error)
    for number in range(rounds):
        order = list(jobs)
        random.Random(seed + number).shuffle(order)
        for place, name in enumerate(order):
            if name in failed:
                continue
            report((1 + number) * len(jobs) + place, f"round {number + 1}, {name}")
            try:
                with contextlib.closing(Worker(jobs[name])) as worker:
                    used = worker.ask("prepare", choices[name])
                    seconds[name].append(worker.ask("slice"))
                    memory[name] += [] if used is None else [used]
            except Failed as error:
                failed[name] = str(error)
    return {
        name: Measurement(
            checked=checked.get(name),
            choice=choices.get(name),
            seconds=() if name in failed else tuple(seconds[name]),
            memory=round(statistics.median(memory[name])) if memory[name] and name not in failed else None,
            failed=failed.get(name, ""),
        )
        for name in jobs
    }
