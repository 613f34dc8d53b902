"""The results of cells as data. Each is a line of cells.jsonl, so that a run goes on where it stopped. No torch here.

The names of fields are those in files: a field that is renamed makes earlier files unreadable.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from convnext.bench.engine.cells import OURS, Cell, Library, Mode, Settings
from convnext.bench.engine.speedup import Rounds, Speedup, compare, relative_iqr, speedup_at_least
from convnext.core.atomic import write_text
from convnext.core.errors import UserError
from convnext.core.logs import read_log
from convnext.core.typed import from_dict, to_dict

CELLS = "cells.jsonl"


@dataclass(frozen=True)
class Machine:
    """The machine and the versions. Results of two machines are never combined."""

    processor: str
    processors: int
    memory_gb: float
    system: str
    python: str
    libraries: tuple[str, ...]
    """Of torch and of each library that takes part, as "timm 1.0"."""


@dataclass(frozen=True)
class Trial:
    """The trial of one candidate: seconds of a call, or why it failed."""

    name: str
    seconds: float | None = None
    failed: str = ""


@dataclass(frozen=True)
class Entry:
    """One contestant of a cell."""

    library: str
    mode: str
    status: Literal["measured", "given up", "absent", "not offered", "failed"]
    note: str = ""
    """Why it was not measured."""
    choice: str = ""
    """The candidate that was fastest."""
    tried: tuple[Trial, ...] = ()
    seconds: tuple[tuple[float, ...], ...] = ()
    """Of one call, for each start, round by round; empty unless measured."""
    memory: int | None = None
    """Bytes that it adds to its process at most while it runs."""
    least: float | None = None
    """Of a contestant that was given up: the seconds that a call takes at least."""

    @property
    def median(self) -> float:
        """Seconds of one call."""
        return _median(self.seconds)


@dataclass(frozen=True)
class CellResult:
    """Everything about one cell."""

    cell: Cell
    settings: Settings
    machine: Machine
    date: str
    limit_choice: str
    """The fastest way to do the matrix products."""
    limit: tuple[tuple[float, ...], ...]
    """Seconds of the matrix products in the same rounds; empty if they failed."""
    entries: tuple[Entry, ...]

    @property
    def limit_median(self) -> float | None:
        """Seconds of the matrix products."""
        return _median(self.limit) if self.limit else None

    @property
    def noise(self) -> float:
        """How far the rounds of the matrix products lie apart: what the machine does to every contestant."""
        return relative_iqr([seconds for rounds in self.limit for seconds in rounds])

    def measured(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.status == "measured"]

    def with_known_speed(self) -> list[Entry]:
        """The entries that were measured or given up."""
        return [entry for entry in self.entries if entry.status in ("measured", "given up")]

    def images_per_second(self, entry: Entry) -> float:
        return self.cell.batch / entry.median

    def max_images_per_second(self, entry: Entry) -> float | None:
        """The most that a contestant that was given up can reach; None for others."""
        return None if entry.least is None else self.cell.batch / entry.least

    def share_of_limit(self, entry: Entry) -> float | None:
        """The limit's time as a share of the entry's: 1 where only the matrix products take time."""
        return None if self.limit_median is None else self.limit_median / entry.median

    def speedup_over(self, entry: Entry) -> Speedup | None:
        """How many times as fast as `entry` ours is in the same mode; None for ours, or if ours was not measured.

        For a contestant that was given up it is a lower bound: the time limit of its call divided by our median.
        """
        ours = [e for e in self.measured() if e.library == OURS and e.mode == entry.mode]
        if entry.library == OURS or not ours:
            return None
        if entry.status == "given up" and entry.least is not None:
            return speedup_at_least(entry.least / ours[0].median)
        return compare(ours[0].seconds, entry.seconds) if entry.status == "measured" else None

    def answers(self, cell: Cell, settings: Settings, machine: Machine, wanted: Sequence[tuple[Library, Mode]]) -> bool:
        """Whether this result has the same cell, settings and machine, and all of the wanted contestants."""
        there = {(entry.library, entry.mode) for entry in self.entries}
        return (self.cell, self.settings, self.machine) == (cell, settings, machine) and set(wanted) <= there


def merge_results(results: Sequence[CellResult], wanted: Sequence[tuple[Library, Mode]]) -> CellResult:
    """One result with the wanted contestants, in that order, from results of the same cell, settings and machine.

    Contestants are compared within one mode only, and each mode comes from one run. The limit is that of the first run
    that has one; the date is the latest.
    """
    first = next((result for result in results if result.limit), results[0])
    entries = {(entry.library, entry.mode): entry for result in results for entry in result.entries}
    date = max(result.date for result in results)
    return CellResult(
        *(first.cell, first.settings, first.machine, date, first.limit_choice, first.limit),
        tuple(entries[key] for key in wanted if key in entries),
    )


def _median(starts: Rounds) -> float:
    return statistics.median(seconds for rounds in starts for seconds in rounds)


def read_cells(folder: Path) -> list[CellResult]:
    """The cells that an earlier run finished; none without such a run. A last line that was cut short is left out.

    Raises UserError if another version wrote the file in another form.
    """
    try:
        return [from_dict(CellResult, line) for line in read_log(folder / CELLS)]
    except UserError as error:
        raise UserError(
            f"{folder / CELLS} was written by another version ({error}) Give another --out, or remove it."
        ) from None


def write_cells(folder: Path, results: Sequence[CellResult]) -> None:
    """Writes all finished cells. A kill at any time leaves either the old file or the new one."""
    write_text(folder / CELLS, "".join(json.dumps(to_dict(result)) + "\n" for result in results))


def three_figures(value: float) -> str:
    """A positive number with three significant figures, or all of those before the decimal point."""
    places = next((places for places, least in enumerate((99.95, 9.995, 0.9995)) if value >= least), 3)
    return f"{value:,.{places}f}"


def summary(results: Sequence[CellResult], *, command: str) -> dict[str, Any]:
    """The content of bench.json: every cell with its figures, for programs."""
    return {"command": command, "cells": [_figures(result) for result in results]}


def _figures(result: CellResult) -> dict[str, Any]:
    entries = []
    for entry, plain in zip(result.entries, to_dict(result)["entries"], strict=True):
        if entry.status == "measured":
            versus = result.speedup_over(entry)
            plain |= {
                "median_seconds": entry.median,
                "images_per_second": result.images_per_second(entry),
                "share_of_limit": result.share_of_limit(entry),
                "ours_is_times_as_fast": None if versus is None else versus.ratio,
                "interval": None if versus is None else [versus.low, versus.high],
            }
        elif (bound := result.speedup_over(entry)) is not None:
            plain |= {"ours_is_times_as_fast": None, "interval": [bound.low, None]}
        entries.append(plain)
    return to_dict(result) | {"limit_median": result.limit_median, "noise": result.noise, "entries": entries}
