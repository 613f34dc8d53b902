"""Models beside each other in one library, ours, eager, as they are trained: the roadmap's steps and what it passes.

The paper argues from throughput too (arXiv 2201.03545, Table 12). Each model is measured in a process of its own, and
only one is alive at a time, so that any number of them fits into memory; every round starts all of them afresh, in an
order drawn anew. Nothing is folded: some steps have what can be folded and others do not.
"""

from __future__ import annotations

import contextlib
import random
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convnext.bench.cells import OURS, Cell, DType, Settings, Work
from convnext.bench.contestants import ModelJob
from convnext.bench.timing import Failed, spread
from convnext.bench.trial import Choice
from convnext.bench.worker import Worker, load_once
from convnext.core.logs import Progress


@dataclass(frozen=True)
class Speed:
    """One model at one kind of work. `seconds`: of one call, round by round; empty where it failed, with a `note`."""

    model: str
    work: Work
    batch: int
    layout: str
    seconds: tuple[float, ...]
    memory: int | None
    """Bytes that it adds to its process at most while it runs."""
    note: str = ""

    @property
    def images_per_second(self) -> float:
        return self.batch / statistics.median(self.seconds)

    @property
    def noise(self) -> float:
        """How far the rounds lie apart, as a share of their median (the range between the quartiles)."""
        return spread(self.seconds)


def measure(
    models: Sequence[str], works: Sequence[Work], settings: Settings, *, batch: int, dtype: DType = "float32"
) -> list[Speed]:
    """The speed of every model at every work, `settings.rounds` times a process of about `settings.seconds` each.

    Each runs in the memory layout that is faster for it. A model that fails is noted, and the others go on.
    """
    load_once(["convnext.bench.contestants"])
    cells = [Cell(model, dtype, batch, work) for work in works for model in models]
    total = len(cells) * (1 + settings.rounds)
    taken: dict[Cell, list[float]] = {cell: [] for cell in cells}
    memory: dict[Cell, list[int]] = {cell: [] for cell in cells}
    choices: dict[Cell, Choice] = {}
    failed: dict[Cell, str] = {}
    with tempfile.TemporaryDirectory(prefix="convnext-bench-") as scratch, Progress("speed", total) as progress:
        jobs = {cell: ModelJob(cell, settings, OURS, "eager", Path(scratch), fold=False) for cell in cells}
        done = 0
        for cell in cells:
            progress.update(done, f"choosing for {cell.title}")
            try:
                with contextlib.closing(Worker(jobs[cell])) as worker:
                    choices[cell] = worker.ask("choose")
            except Failed as error:
                failed[cell] = str(error)
            done += 1
        for number in range(settings.rounds):
            order = [cell for cell in cells if cell not in failed]
            random.Random(settings.seed + number).shuffle(order)
            for cell in order:
                progress.update(done, f"round {number + 1}, {cell.title}")
                try:
                    with contextlib.closing(Worker(jobs[cell])) as worker:
                        used = worker.ask("prepare", choices[cell])
                        taken[cell].append(worker.ask("slice"))
                        memory[cell] += [] if used is None else [used]
                except Failed as error:
                    failed[cell] = str(error)
                done += 1
    return [
        Speed(
            *(cell.model, cell.work, cell.batch),
            layout=choices[cell].best if cell in choices else "",
            seconds=() if cell in failed else tuple(taken[cell]),
            memory=round(statistics.median(memory[cell])) if memory[cell] else None,
            note=failed.get(cell, ""),
        )
        for cell in cells
    ]
