"""The whole of `convnext bench`: cell by cell, everybody in a process of their own, interleaved in every round."""

from __future__ import annotations

import contextlib
import os
import platform
import random
import re
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

import torch

from convnext.bench import limit, peers
from convnext.bench.cells import LIBRARIES, MODES, OURS, Cell, Library, Mode, Settings, modes_of, seconds_for
from convnext.bench.contestants import ModelJob
from convnext.bench.results import CellResult, Entry, Machine, Tried, joined, read_cells, write_cells
from convnext.bench.timing import Failed, GivenUp, Slice, play
from convnext.bench.trial import Choice
from convnext.bench.worker import Worker, load_once
from convnext.core import device
from convnext.core.logs import Progress, duration, say
from convnext.models.create import count_macs, create_model

LIMIT = "limit"
_TRIALS = 2  # processes in which a contestant tries its candidates
_SHORT = 1.0  # seconds of a call that everybody is waited for
Job = ModelJob | limit.LimitJob
Key = tuple[Library, Mode]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Asked:
    """What to measure, and how."""

    cells: tuple[Cell, ...]
    libraries: tuple[Library, ...]
    modes: tuple[Mode, ...]
    settings: Settings

    def keys(self, cell: Cell) -> list[Key]:
        """The contestants of a cell: mode by mode, ours first."""
        return [(library, mode) for mode in modes_of(cell.work, self.modes) for library in self.libraries]


def run_bench(asked: Asked, out: Path) -> list[CellResult]:
    """Measures every cell that `out` does not hold yet; returns all that were asked for, in order.

    Each cell is written to `out` as it ends. Raises UserError where a library computes something else than ours.
    """
    out.mkdir(parents=True, exist_ok=True)
    machine = this_machine(asked.settings.device)
    kept = read_cells(out)
    found = {cell: _found(kept, cell, asked, machine) for cell in asked.cells}
    parts = {cell: _missing(found[cell], cell, asked) for cell in asked.cells}
    missing = {cell: part for cell, part in parts.items() if part is not None}
    for library in asked.libraries:
        if library != OURS and peers.version(library) is None:
            say(f"{library} is absent; to have it compared: {peers.INSTALL[library]}")
    done = f" ({len(asked.cells) - len(missing)} are done already)" if len(missing) < len(asked.cells) else ""
    if missing:
        _warn_of_others(asked.settings)
        cells = "1 cell" if len(missing) == 1 else f"{len(missing)} cells"
        say(f"{cells} to measure{done}, about {duration(estimate(missing))}; results in {out}")
    load_once(["convnext.bench.contestants", "convnext.bench.limit", *peers.modules(asked.libraries)])
    with Progress("bench", len(missing), unit="cell") as progress:
        for number, (cell, part) in enumerate(missing.items()):
            result = run_cell(
                cell, part, machine, lambda text, n=number, c=cell: progress.update(n, f"{c.title}: {text}")
            )
            kept = [*kept, result]
            write_cells(out, kept)
            found[cell].append(result)
            progress.update(number + 1)
    return [joined(results, asked.keys(cell)) for cell, results in found.items()]


def _warn_of_others(settings: Settings) -> None:
    """Says so where something else keeps the processors busy: every figure would be of both together."""
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if settings.device == "cpu" and busy > 0.3:
        say(f"warning: other programs keep {busy:.1f} processors busy (load of the last minute): expect noise")


def _found(kept: Sequence[CellResult], cell: Cell, asked: Asked, machine: Machine) -> list[CellResult]:
    """What is known of a cell already: for each mode the latest result that holds all of its contestants."""
    found = []
    for mode in modes_of(cell.work, asked.modes):
        keys = replace(asked, modes=(mode,)).keys(cell)
        latest = (result for result in reversed(kept) if result.holds(cell, asked.settings, machine, keys))
        if (result := next(latest, None)) is not None:
            found.append(joined([result], keys))
    return found


def _missing(found: Sequence[CellResult], cell: Cell, asked: Asked) -> Asked | None:
    """What is to be measured of a cell: the modes that were not found; None where there are none."""
    known = {entry.mode for result in found for entry in result.entries}
    modes = tuple(mode for mode in modes_of(cell.work, asked.modes) if mode not in known)
    return replace(asked, modes=modes) if modes else None


def run_cell(cell: Cell, asked: Asked, machine: Machine, heard: Say) -> CellResult:
    """One cell: everybody checked, set to their best settings, then several times started and run in turn."""
    entries = {" ".join(key): _excused(key, cell) for key in asked.keys(cell)}
    keys = {name: key for name, key in zip(entries, asked.keys(cell), strict=True) if entries[name] is None}
    with tempfile.TemporaryDirectory(prefix="convnext-bench-") as scratch:
        jobs: dict[str, Job] = {n: ModelJob(cell, asked.settings, *key, Path(scratch)) for n, key in keys.items()}
        jobs[LIMIT] = limit.LimitJob(cell, asked.settings)
        failed = _check(jobs, heard)
        ours = {name: job for name, job in jobs.items() if name.split()[0] == OURS}
        choices = _choose(ours, asked.settings, failed, heard)
        others = {name: _hurried(job, choices) for name, job in jobs.items() if name not in ours}
        choices |= _choose(others, asked.settings, failed, heard)
        started = []
        for number in range(asked.settings.starts):
            present = {name: (jobs[name], choices[name]) for name in jobs if name not in failed}
            started.append(_start(number, present, asked.settings, failed, heard))
    for name, entry in entries.items():
        library, mode = name.split()
        if name in failed:
            entries[name] = _out(library, mode, failed[name])
        elif entry is None:
            entries[name] = _measured(library, mode, choices[name], [start[name] for start in started])
    return CellResult(
        *(cell, asked.settings, machine, datetime.now().astimezone().isoformat(timespec="seconds")),
        *("", ()) if LIMIT in failed else (choices[LIMIT].best, tuple(start[LIMIT].seconds for start in started)),
        tuple(entry for entry in entries.values() if entry is not None),
    )


def _hurried(job: Job, choices: Mapping[str, Choice]) -> Job:
    """The job with the time that a call of it may take: as the settings say, beside ours in the same mode, where ours
    did not fail, and a second at least: what is shorter, one hiccup of the machine may take. The limit's is beside the
    fastest mode."""
    modes = (job.mode,) if isinstance(job, ModelJob) else MODES
    ours = [choice.tried[choice.best] for mode in modes if (choice := choices.get(f"{OURS} {mode}")) is not None]
    if not ours or not job.settings.give_up:
        return job
    return replace(job, most=max(job.settings.give_up * min(ours), _SHORT))


def _choose(jobs: Mapping[str, Job], settings: Settings, failed: dict[str, Failed], heard: Say) -> dict[str, Choice]:
    """The best candidate of each that has not failed.

    As many as there are threads are built side by side, where they can be. Candidates are timed alone. Each is tried in
    several processes, and its best time counts: in one, a candidate may be slow by where its memory happens to lie.
    """
    choices: dict[str, Choice] = {}
    left = [name for name in jobs if name not in failed]
    while left:
        together = [name for name in left if jobs[name].beside][: settings.threads] or left[:1]
        left = [name for name in left if name not in together]
        for _ in range(_TRIALS):
            present = {name: jobs[name] for name in together if name not in failed}
            if not present:
                break
            for name, choice in _tried(present, failed, heard).items():
                choices[name] = choice if name not in choices else choices[name].with_best_of(choice)
            for name in present:
                if name in choices and isinstance(failed.get(name), GivenUp):
                    del failed[name]  # another time it was fast enough
    return choices


def _tried(jobs: Mapping[str, Job], failed: dict[str, Failed], heard: Say) -> dict[str, Choice]:
    """What each chooses in a process of its own, all built side by side."""
    choices: dict[str, Choice] = {}
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(contextlib.closing(Worker(job))) for name, job in jobs.items()}
        heard(f"building {' and '.join(jobs)}")
        with ThreadPoolExecutor(len(jobs)) as pool:
            building = {name: pool.submit(worker.ask, "build") for name, worker in workers.items()}
        for name, worker in workers.items():
            heard(f"choosing for {name}")
            with _noting(failed, name):
                building[name].result()
                choices[name] = worker.ask("choose")
    return choices


@dataclass(frozen=True)
class _Started:
    """What one start of a contestant gave: seconds of a call in each round, bytes of memory."""

    seconds: tuple[float, ...]
    memory: int | None


def _start(
    number: int,
    contestants: Mapping[str, tuple[Job, Choice]],
    settings: Settings,
    failed: dict[str, Failed],
    heard: Say,
) -> dict[str, _Started]:
    """Starts everybody, in an order of its own, and plays the rounds. Who fails is noted in `failed`."""
    order = list(contestants)
    random.Random(settings.seed + number).shuffle(order)
    with contextlib.ExitStack() as stack:
        slices: dict[str, Slice] = {}
        memory: dict[str, int | None] = {}
        heard(f"start {number + 1}")
        workers = {name: stack.enter_context(contextlib.closing(Worker(contestants[name][0]))) for name in order}
        with ThreadPoolExecutor(settings.threads) as pool:  # nothing is timed yet
            preparing = {name: pool.submit(workers[name].ask, "prepare", contestants[name][1]) for name in order}
        for name in order:
            with _noting(failed, name):
                memory[name] = preparing[name].result()
                slices[name] = partial(workers[name].ask, "slice")
        played = play(
            slices,
            rounds=settings.rounds,
            seed=settings.seed + number,
            heard=lambda r, name: heard(f"start {number + 1}, round {r + 1}, {name}"),
        )
    failed |= {name: Failed(why) for name, why in played.failed.items()}
    return {name: _Started(tuple(seconds), memory[name]) for name, seconds in played.seconds.items()}


@contextlib.contextmanager
def _noting(failed: dict[str, Failed], name: str) -> Iterator[None]:
    """Notes why a contestant failed; the others go on."""
    try:
        yield
    except Failed as error:
        failed[name] = error


def _check(jobs: Mapping[str, Job], heard: Say) -> dict[str, Failed]:
    """Has one process of each library compare its model with ours; who cannot even build it has failed, and why."""
    failed: dict[str, Failed] = {}
    for library in dict.fromkeys(name.split()[0] for name in jobs if name != LIMIT):
        names = [name for name in jobs if name.split()[0] == library]
        heard(f"checking {library}")
        with _noting(failed, names[0]), contextlib.closing(Worker(jobs[names[0]])) as worker:
            worker.ask("check")
        if names[0] in failed:
            failed |= dict.fromkeys(names, failed[names[0]])
    return failed


def _excused(key: Key, cell: Cell) -> Entry | None:
    """Why a contestant takes no part, if it does not."""
    library, mode = key
    if library != OURS and peers.version(library) is None:
        return Entry(library, mode, "absent", note=peers.INSTALL[library])
    if not peers.offers(library, cell.model):
        return Entry(library, mode, "not offered", note=f"{library} has no {cell.model}")
    return None


def _out(library: str, mode: str, why: Failed) -> Entry:
    """Of a contestant that was given up, or failed."""
    if isinstance(why, GivenUp):
        return Entry(library, mode, "given up", note=str(why), least=why.seconds)
    return Entry(library, mode, "failed", note=str(why))


def _measured(library: str, mode: str, choice: Choice, starts: Sequence[_Started]) -> Entry:
    tried = [Tried(name, seconds=taken) for name, taken in choice.tried.items()]
    tried += [Tried(name, failed=why) for name, why in choice.failed.items()]
    memory = [start.memory for start in starts if start.memory is not None]
    return Entry(
        *(library, mode, "measured"),
        choice=choice.best,
        tried=tuple(tried),
        seconds=tuple(start.seconds for start in starts),
        memory=round(statistics.median(memory)) if memory else None,
    )


def estimate(parts: Mapping[Cell, Asked]) -> float:
    """About how many seconds the cells take here, from a matrix product's speed and the compiler's usual time."""
    speed, total = limit.probe(next(iter(parts.values())).settings), 0.0
    for cell, asked in parts.items():
        with torch.device("meta"):
            macs = count_macs(create_model(cell.model), asked.settings.size)
        call = 1.5 * macs * cell.batch * (3 if cell.work == "train" else 1) / speed
        present = [
            name for name in asked.libraries if peers.offers(name, cell.model) and (name == OURS or peers.version(name))
        ]
        total += seconds_for(cell, asked.settings, asked.modes, len(present), call=call)
    return total


def this_machine(device_name: str) -> Machine:
    """The machine that measures on that device, in words, with the versions of all libraries that could take part."""
    versions = [f"torch {torch.__version__}"]
    versions += [f"{name} {peers.version(name)}" for name in LIBRARIES if peers.version(name) is not None]
    return Machine(
        processor=_processor(torch.device(device_name)),
        processors=device.available_cpus(),
        memory_gb=round(_memory() / 2**30, 1),
        system=platform.platform(terse=True),
        python=platform.python_version(),
        libraries=tuple(versions),
    )


def _processor(where: torch.device) -> str:
    if where.type == "cuda":
        return device.describe(where)
    try:
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def _memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not on Windows
        return 0


def command_line() -> str:
    """The command that this is, for whoever wants the same again."""
    return " ".join(["convnext", *sys.argv[1:]])
