"""What was measured, as data: a line of cells.jsonl for each cell as it ends, so that a run can go on where it stopped.

No torch here.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from convnext.bench.cells import OURS, Cell, Library, Mode, Settings
from convnext.bench.timing import Comparison, Rounds, at_least, compare, spread
from convnext.core.atomic import write_text
from convnext.core.errors import UserError
from convnext.core.logs import read_log
from convnext.core.typed import from_dict, to_dict

CELLS = "cells.jsonl"


@dataclass(frozen=True)
class Machine:
    """On what, and with which versions. Figures of two machines are never put together."""

    processor: str
    processors: int
    memory_gb: float
    system: str
    python: str
    libraries: tuple[str, ...]
    """Of torch and of each library that takes part, as "timm 1.0"."""


@dataclass(frozen=True)
class Tried:
    """One candidate of a contestant: seconds of a call in the choosing, or why it could not run."""

    name: str
    seconds: float | None = None
    failed: str = ""


@dataclass(frozen=True)
class Entry:
    """One contestant of a cell. `seconds`: of one call, for each start, round by round (empty unless measured).

    `least`: what a call takes at least, of one that was given up.
    """

    library: str
    mode: str
    status: Literal["measured", "given up", "absent", "not offered", "failed"]
    note: str = ""
    choice: str = ""
    tried: tuple[Tried, ...] = ()
    seconds: tuple[tuple[float, ...], ...] = ()
    memory: int | None = None
    least: float | None = None

    @property
    def median(self) -> float:
        return _median(self.seconds)


@dataclass(frozen=True)
class CellResult:
    """Everything about one cell. `limit`: the matrix products in the same rounds, done in the way that was fastest."""

    cell: Cell
    settings: Settings
    machine: Machine
    date: str
    limit_choice: str
    limit: tuple[tuple[float, ...], ...]
    entries: tuple[Entry, ...]

    @property
    def limit_median(self) -> float | None:
        return _median(self.limit) if self.limit else None

    @property
    def noise(self) -> float:
        """How far the limit's own rounds lie apart: what the machine does to anybody."""
        return spread([seconds for rounds in self.limit for seconds in rounds])

    def measured(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.status == "measured"]

    def seen(self) -> list[Entry]:
        """Those of whose speed something is known: measured or given up."""
        return [entry for entry in self.entries if entry.status in ("measured", "given up")]

    def images_per_second(self, entry: Entry) -> float:
        return self.cell.batch / entry.median

    def most_images_per_second(self, entry: Entry) -> float | None:
        """What one that was given up reaches at most; None for others."""
        return None if entry.least is None else self.cell.batch / entry.least

    def share(self, entry: Entry) -> float | None:
        """The limit's time as a share of the entry's: 1 where only the matrix products take time."""
        return None if self.limit_median is None else self.limit_median / entry.median

    def against(self, entry: Entry) -> Comparison | None:
        """How many times as fast as `entry` ours is in the same mode; None for ours, or where ours was not measured.

        Of one that was given up, at least how many times: the time that it was given over the median of ours.
        """
        ours = [e for e in self.measured() if e.library == OURS and e.mode == entry.mode]
        if entry.library == OURS or not ours:
            return None
        if entry.status == "given up" and entry.least is not None:
            return at_least(entry.least / ours[0].median)
        return compare(ours[0].seconds, entry.seconds) if entry.status == "measured" else None

    def holds(self, cell: Cell, settings: Settings, machine: Machine, wanted: Sequence[tuple[Library, Mode]]) -> bool:
        """Whether it answers what is asked: the same cell, settings and machine, with all of the wanted contestants."""
        there = {(entry.library, entry.mode) for entry in self.entries}
        return (self.cell, self.settings, self.machine) == (cell, settings, machine) and set(wanted) <= there


def joined(results: Sequence[CellResult], wanted: Sequence[tuple[Library, Mode]]) -> CellResult:
    """One result of the wanted contestants, in that order, from several of the same cell, settings and machine.

    Contestants are compared within a mode alone, and each mode comes from one run. The limit is that of the first run
    that has one; the date is the last.
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
    """The cells that an earlier run finished; none where there was no such run. A last line cut short is left out.

    Raises UserError for lines of another version's form.
    """
    try:
        return [from_dict(CellResult, line) for line in read_log(folder / CELLS)]
    except UserError as error:
        raise UserError(
            f"{folder / CELLS} was written by another version ({error}) Give another --out, or remove it."
        ) from None


def write_cells(folder: Path, results: Sequence[CellResult]) -> None:
    """Writes all finished cells; a kill at any time leaves either the old file or the new one."""
    write_text(folder / CELLS, "".join(json.dumps(to_dict(result)) + "\n" for result in results))


def figures(value: float) -> str:
    """A positive number with three significant figures, or all of those before the point."""
    places = next((places for places, least in enumerate((99.95, 9.995, 0.9995)) if value >= least), 3)
    return f"{value:,.{places}f}"


def summary(results: Sequence[CellResult], *, command: str) -> dict[str, Any]:
    """bench.json: every cell with its figures, for programs."""
    return {"command": command, "cells": [_figures(result) for result in results]}


def _figures(result: CellResult) -> dict[str, Any]:
    entries = []
    for entry, plain in zip(result.entries, to_dict(result)["entries"], strict=True):
        if entry.status == "measured":
            versus = result.against(entry)
            plain |= {
                "median_seconds": entry.median,
                "images_per_second": result.images_per_second(entry),
                "share_of_limit": result.share(entry),
                "ours_is_times_as_fast": None if versus is None else versus.ratio,
                "interval": None if versus is None else [versus.low, versus.high],
            }
        elif (bound := result.against(entry)) is not None:
            plain |= {"ours_is_times_as_fast": None, "interval": [bound.low, None]}
        entries.append(plain)
    return to_dict(result) | {"limit_median": result.limit_median, "noise": result.noise, "entries": entries}
