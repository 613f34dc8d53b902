"""Models beside each other in one library, ours, eager, as they are trained: the roadmap's steps and what it passes.

The paper argues from throughput too (arXiv 2201.03545, Table 12). The models take turns (see `alternate`). Nothing is
folded: some steps have what can be folded and others do not.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convnext.bench.alternate import Turns, alternate
from convnext.bench.cells import OURS, Cell, DType, Settings, Work
from convnext.bench.contestants import ModelJob
from convnext.bench.timing import spread
from convnext.bench.worker import Job, load_once
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
    cells = {cell.title: cell for cell in (Cell(model, dtype, batch, work) for work in works for model in models)}
    total = len(cells) * (1 + settings.rounds)
    with tempfile.TemporaryDirectory(prefix="convnext-bench-") as scratch, Progress("speed", total) as progress:
        jobs: dict[str, Job] = {
            title: ModelJob(cell, settings, OURS, "eager", Path(scratch), fold=False) for title, cell in cells.items()
        }
        # unchecked: there is nobody but ourselves to compare with
        turns = alternate(jobs, rounds=settings.rounds, seed=settings.seed, check=False, heard=progress.update)
        progress.update(total)
    return [_speed(cell, turns[title]) for title, cell in cells.items()]


def _speed(cell: Cell, turns: Turns) -> Speed:
    return Speed(
        *(cell.model, cell.work, cell.batch),
        layout="" if turns.choice is None else turns.choice.best,
        seconds=turns.seconds,
        memory=turns.memory,
        note=turns.failed,
    )
