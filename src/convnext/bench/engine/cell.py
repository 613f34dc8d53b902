"""One cell of `convnext bench`: every contestant in a process of its own, all of them interleaved in every round."""

from __future__ import annotations

import contextlib
import random
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

from convnext.bench.engine.cells import MODES, OURS, Cell, Library, Mode, Plan, Settings
from convnext.bench.engine.limit import LimitJob
from convnext.bench.engine.results import CellResult, Entry, Machine, Trial
from convnext.bench.engine.timing import Failed, GivenUp, TimeSlice, run_rounds
from convnext.bench.engine.trial import Choice
from convnext.bench.engine.worker import Job, Worker

LIMIT = "limit"
"""The name of the matrix products among the contestants; the others are called "library mode"."""

_TRIALS = 2  # processes in which a contestant times its candidates
_MIN_WAIT = 1.0  # seconds that a call of any contestant may take
Report = Callable[[str], None]


class CellJob(Job, Protocol):
    """A job for a process, one contestant of a cell; a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    settings: Settings
    max_seconds: float | None
    """It is given up if one call takes longer; None: never."""

    @property
    def builds_in_parallel(self) -> bool:
        """Whether its candidates are built while other processes build theirs."""
        ...


@dataclass(frozen=True)
class Contestants:
    """What a comparison knows of its libraries."""

    job: Callable[[Cell, Settings, Library, Mode, Path], CellJob]
    """Of one contestant; the path is a folder for its temporary files."""
    excuse: Callable[[Library, Mode, Cell], Entry | None]
    """Why a contestant takes no part in a cell; None if it does."""


@dataclass(frozen=True)
class _Start:
    """What one start of a contestant gave: seconds of a call in each round, bytes of memory."""

    seconds: tuple[float, ...]
    memory: int | None


def measure_cell(cell: Cell, plan: Plan, machine: Machine, contestants: Contestants, report: Report) -> CellResult:
    """Checks all contestants, lets each choose its best candidate, then starts and times them several times.

    Raises UserError if a library computes something else than ours does.
    """
    excused: dict[tuple[Library, Mode], Entry | None] = {
        (library, mode): contestants.excuse(library, mode, cell) for library, mode in plan.contestants(cell)
    }
    failed: dict[str, Failed] = {}
    with tempfile.TemporaryDirectory(prefix="convnext-bench-") as scratch:
        jobs: dict[str, CellJob] = {
            f"{library} {mode}": contestants.job(cell, plan.settings, library, mode, Path(scratch))
            for (library, mode), excuse in excused.items()
            if excuse is None
        }
        jobs[LIMIT] = LimitJob(cell, plan.settings)
        _check_all(jobs, failed, report)
        ours = {name: job for name, job in jobs.items() if name.split()[0] == OURS}
        choices = _choose_all(ours, plan.settings, failed, report)
        others = {name: _with_time_limit(name, job, choices) for name, job in jobs.items() if name not in ours}
        choices |= _choose_all(others, plan.settings, failed, report)
        starts = []
        for number in range(plan.settings.starts):
            present = {name: (jobs[name], choices[name]) for name in jobs if name not in failed}
            starts.append(_start_all(number, present, plan.settings, failed, report))
    entries = []
    for (library, mode), excuse in excused.items():
        name = f"{library} {mode}"
        if name in failed:
            entries.append(_failed_entry(library, mode, failed[name]))
        elif excuse is None:
            entries.append(_measured_entry(library, mode, choices[name], [start[name] for start in starts]))
        else:
            entries.append(excuse)
    return CellResult(
        *(cell, plan.settings, machine, datetime.now().astimezone().isoformat(timespec="seconds")),
        *("", ()) if LIMIT in failed else (choices[LIMIT].best, tuple(start[LIMIT].seconds for start in starts)),
        tuple(entries),
    )


def _with_time_limit(name: str, job: CellJob, choices: Mapping[str, Choice]) -> CellJob:
    """The job with the time that one of its calls may take: a multiple of ours in the same mode, and at least a second.

    The limit is compared with our fastest mode. A job has no time limit where ours failed or takes no part. A second
    is the least, since one hiccup of the machine may take that long.
    """
    modes = MODES if name == LIMIT else (name.split()[1],)
    ours = [choice.tried[choice.best] for mode in modes if (choice := choices.get(f"{OURS} {mode}")) is not None]
    if not ours or not job.settings.give_up:
        return job
    return replace(job, max_seconds=max(job.settings.give_up * min(ours), _MIN_WAIT))


@contextlib.contextmanager
def _noting(failed: dict[str, Failed], name: str) -> Iterator[None]:
    """Notes why a contestant failed; the others go on."""
    try:
        yield
    except Failed as error:
        failed[name] = error


def _check_all(jobs: Mapping[str, CellJob], failed: dict[str, Failed], report: Report) -> None:
    """Has one process of each library compare its model with ours. A library that cannot build it has failed."""
    for library in dict.fromkeys(name.split()[0] for name in jobs if name != LIMIT):
        names = [name for name in jobs if name.split()[0] == library]
        report(f"checking {library}")
        with _noting(failed, names[0]), contextlib.closing(Worker(jobs[names[0]])) as worker:
            worker.ask("check")
        if names[0] in failed:
            failed |= dict.fromkeys(names, failed[names[0]])


def _choose_all(
    jobs: Mapping[str, CellJob], settings: Settings, failed: dict[str, Failed], report: Report
) -> dict[str, Choice]:
    """The best candidate of each contestant that has not failed.

    Where jobs allow it, as many are built at the same time as there are threads. Candidates are timed alone. Each is
    timed in several processes, and its best time counts: in one, its memory may happen to lie badly.
    """
    choices: dict[str, Choice] = {}
    left = [name for name in jobs if name not in failed]
    while left:
        together = [name for name in left if jobs[name].builds_in_parallel][: settings.threads] or left[:1]
        left = [name for name in left if name not in together]
        for _ in range(_TRIALS):
            present = {name: jobs[name] for name in together if name not in failed}
            if not present:
                break
            for name, choice in _choose_once(present, failed, report).items():
                choices[name] = choice if name not in choices else choices[name].merged_with(choice)
            for name in present:
                if name in choices and isinstance(failed.get(name), GivenUp):
                    del failed[name]  # in the other trial it was fast enough
    return choices


def _choose_once(jobs: Mapping[str, CellJob], failed: dict[str, Failed], report: Report) -> dict[str, Choice]:
    """What each chooses in a new process. All are built at the same time, then timed one after another."""
    choices: dict[str, Choice] = {}
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(contextlib.closing(Worker(job))) for name, job in jobs.items()}
        report(f"building {' and '.join(jobs)}")
        with ThreadPoolExecutor(len(jobs)) as pool:
            building = {name: pool.submit(worker.ask, "build") for name, worker in workers.items()}
        for name, worker in workers.items():
            report(f"choosing for {name}")
            with _noting(failed, name):
                building[name].result()
                choices[name] = worker.ask("choose")
    return choices


def _start_all(
    number: int,
    contestants: Mapping[str, tuple[CellJob, Choice]],
    settings: Settings,
    failed: dict[str, Failed],
    report: Report,
) -> dict[str, _Start]:
    """Starts all contestants in a random order and runs the rounds. Contestants that fail are added to `failed`."""
    order = list(contestants)
    random.Random(settings.seed + number).shuffle(order)
    with contextlib.ExitStack() as stack:
        slices: dict[str, TimeSlice] = {}
        memory: dict[str, int | None] = {}
        report(f"start {number + 1}")
        workers = {name: stack.enter_context(contextlib.closing(Worker(contestants[name][0]))) for name in order}
        with ThreadPoolExecutor(settings.threads) as pool:  # nothing is timed yet
            preparing = {name: pool.submit(workers[name].ask, "prepare", contestants[name][1]) for name in order}
        for name in order:
            with _noting(failed, name):
                memory[name] = preparing[name].result()
                slices[name] = partial(workers[name].ask, "slice")
        times = run_rounds(
            slices,
            rounds=settings.rounds,
            seed=settings.seed + number,
            report=lambda r, name: report(f"start {number + 1}, round {r + 1}, {name}"),
        )
    failed |= {name: Failed(why) for name, why in times.failed.items()}
    return {name: _Start(tuple(seconds), memory[name]) for name, seconds in times.seconds.items()}


def _failed_entry(library: Library, mode: Mode, why: Failed) -> Entry:
    if isinstance(why, GivenUp):
        return Entry(library, mode, "given up", note=str(why), least=why.seconds)
    return Entry(library, mode, "failed", note=str(why))


def _measured_entry(library: Library, mode: Mode, choice: Choice, starts: Sequence[_Start]) -> Entry:
    tried = [Trial(name, seconds=seconds) for name, seconds in choice.tried.items()]
    tried += [Trial(name, failed=why) for name, why in choice.failed.items()]
    memory = [start.memory for start in starts if start.memory is not None]
    return Entry(
        *(library, mode, "measured"),
        choice=choice.best,
        tried=tuple(tried),
        seconds=tuple(start.seconds for start in starts),
        memory=round(statistics.median(memory)) if memory else None,
    )
