"""The whole of `convnext bench`, cell by cell: a run that was stopped goes on where it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from convnext.bench.engine.cell import Contestants, measure_cell
from convnext.bench.engine.cells import Cell, Plan, Settings, estimate_seconds, modes_for
from convnext.bench.engine.limit import macs_per_second
from convnext.bench.engine.machine import processors_in_use, this_machine
from convnext.bench.engine.results import CellResult, Machine, merge_results, read_cells, write_cells
from convnext.core.logs import Progress, duration, say
from convnext.models.create import count_macs, create_model


def run_plan(plan: Plan, contestants: Contestants, out: Path) -> list[CellResult]:
    """Measures every cell that the folder `out` does not hold yet; returns all cells of the plan in order.

    Each cell is written to `out` as soon as it ends.

    Raises:
        UserError: if a library computes something else than ours does, or another version wrote what is in `out`.
    """
    out.mkdir(parents=True, exist_ok=True)
    machine = this_machine(plan.settings.device)
    kept = read_cells(out)
    found = {cell: _known(kept, cell, plan, machine) for cell in plan.cells}
    parts = {cell: _missing(found[cell], cell, plan) for cell in plan.cells}
    missing = {cell: part for cell, part in parts.items() if part is not None}
    done = f" ({len(plan.cells) - len(missing)} are done already)" if len(missing) < len(plan.cells) else ""
    if missing:
        _warn_if_busy(plan.settings)
        cells = "1 cell" if len(missing) == 1 else f"{len(missing)} cells"
        say(f"{cells} to measure{done}, about {duration(estimate(missing, contestants))}; results in {out}")
    with Progress("bench", len(missing), unit="cell") as progress:
        for number, (cell, part) in enumerate(missing.items()):

            def report(text: str, number: int = number, cell: Cell = cell) -> None:
                progress.update(number, f"{cell.title}: {text}")

            result = measure_cell(cell, part, machine, contestants, report)
            kept = [*kept, result]
            write_cells(out, kept)
            found[cell].append(result)
            progress.update(number + 1)
    return [merge_results(results, plan.contestants(cell)) for cell, results in found.items()]


def _warn_if_busy(settings: Settings) -> None:
    """Warns of other programs that keep the processors busy: every figure would be of both together."""
    busy = processors_in_use()
    if settings.device == "cpu" and busy > 0.3:
        say(f"warning: other programs keep {busy:.1f} processors busy (load of the last minute): expect noise")


def _known(kept: Sequence[CellResult], cell: Cell, plan: Plan, machine: Machine) -> list[CellResult]:
    """The results that a cell has already: for each mode the latest one with all of its contestants."""
    found = []
    for mode in modes_for(cell.work, plan.modes):
        wanted = replace(plan, modes=(mode,)).contestants(cell)
        latest = (result for result in reversed(kept) if result.answers(cell, plan.settings, machine, wanted))
        if (result := next(latest, None)) is not None:
            found.append(merge_results([result], wanted))
    return found


def _missing(found: Sequence[CellResult], cell: Cell, plan: Plan) -> Plan | None:
    """The plan with the modes of a cell that are not measured yet; None if there are none."""
    known = {entry.mode for result in found for entry in result.entries}
    modes = tuple(mode for mode in modes_for(cell.work, plan.modes) if mode not in known)
    return replace(plan, modes=modes) if modes else None


def estimate(parts: Mapping[Cell, Plan], contestants: Contestants) -> float:
    """About how many seconds the cells take here, from the speed of a matrix product and usual times of compilers."""
    speed, total = macs_per_second(next(iter(parts.values())).settings), 0.0
    for cell, plan in parts.items():
        with torch.device("meta"):
            macs = count_macs(create_model(cell.model), plan.settings.size)
        call = 1.5 * macs * cell.batch * (3 if cell.work == "train" else 1) / speed
        present = [name for name in plan.libraries if contestants.excuse(name, plan.modes[0], cell) is None]
        total += estimate_seconds(cell, plan.settings, plan.modes, len(present), call=call)
    return total
