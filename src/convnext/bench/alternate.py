"""Contestants that take turns, with one process alive at a time, so that any number of them fits into memory.

Every round starts all of them afresh, in an order drawn anew: a round is a start. Nobody finds what another left.
"""

from __future__ import annotations

import contextlib
import random
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from convnext.bench.timing import Failed
from convnext.bench.trial import Choice
from convnext.bench.worker import Job, Worker


@dataclass(frozen=True)
class Turns:
    """What a contestant gave. `seconds`: of one call, round by round; empty where it failed, for the reason `failed`.

    `memory`: bytes that it adds to its process at most while it runs, the median over rounds. `checked`: what its check
    returned.
    """

    checked: Any = None
    choice: Choice | None = None
    seconds: tuple[float, ...] = ()
    memory: int | None = None
    failed: str = ""


def alternate(
    jobs: Mapping[str, Job],
    *,
    rounds: int,
    seed: int,
    check: bool = True,
    heard: Callable[[int, str], None] = lambda _done, _text: None,
) -> dict[str, Turns]:
    """Checks all jobs if asked to, lets each choose its best candidate, then runs one slice of each in every round.

    `heard` is told how many processes have ended, of len(jobs) * (1 + rounds), and what comes next. One that fails is
    out from there on. Raises UserError where a job's check does: nobody is timed then.
    """
    checked: dict[str, Any] = {}
    choices: dict[str, Choice] = {}
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    memory: dict[str, list[int]] = {name: [] for name in jobs}
    failed: dict[str, str] = {}
    for number, (name, job) in enumerate(jobs.items()):
        heard(number, f"{'checking and ' if check else ''}choosing for {name}")
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
            heard((1 + number) * len(jobs) + place, f"round {number + 1}, {name}")
            try:
                with contextlib.closing(Worker(jobs[name])) as worker:
                    used = worker.ask("prepare", choices[name])
                    taken[name].append(worker.ask("slice"))
                    memory[name] += [] if used is None else [used]
            except Failed as error:
                failed[name] = str(error)
    return {
        name: Turns(
            checked=checked.get(name),
            choice=choices.get(name),
            seconds=() if name in failed else tuple(taken[name]),
            memory=round(statistics.median(memory[name])) if memory[name] and name not in failed else None,
            failed=failed.get(name, ""),
        )
        for name in jobs
    }
