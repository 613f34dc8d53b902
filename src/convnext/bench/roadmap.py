"""The speed of our own models beside each other, eager and unfolded: the steps of the roadmap.

The paper reports throughput too (arXiv 2201.03545, Table 12). The models take turns (see `engine.turns`). Nothing is
folded, since only some steps have anything to fold.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convnext.bench.classification import ClassifierJob
from convnext.bench.engine.cells import OURS, Cell, DType, Settings, Work
from convnext.bench.engine.speedup import relative_iqr
from convnext.bench.engine.turns import Measurement, measure_in_turns
from convnext.bench.engine.worker import Job, preload
from convnext.core.logs import Progress


@dataclass(frozen=True)
class ModelSpeed:
    """The speed of one model at one kind of work."""

    model: str
    work: Work
    batch: int
    layout: str
    """The memory layout that was faster: NCHW or NHWC."""
    seconds: tuple[float, ...]
    """Of one call, round by round; empty if it failed."""
    memory: int | None
    """Bytes that it adds to its process at most while it runs."""
    note: str = ""
    """Why it failed."""

    @property
    def images_per_second(self) -> float:
        return self.batch / statistics.median(self.seconds)

    @property
    def noise(self) -> float:
        """The interquartile range of the rounds divided by their median."""
        return relative_iqr(self.seconds)


def measure(
    models: Sequence[str], works: Sequence[Work], settings: Settings, *, batch: int, dtype: DType = "float32"
) -> list[ModelSpeed]:
    """The speed of every model at every work, in `settings.rounds` rounds of a process of its own.

    Each runs in the memory layout that is faster for it. If a model fails, its `note` says why, and the others go on.
    """
    preload(["convnext.bench.classification"])
    cells = {cell.title: cell for cell in (Cell(model, dtype, batch, work) for work in works for model in models)}
    total = len(cells) * (1 + settings.rounds)
    with tempfile.TemporaryDirectory(prefix="convnext-bench-") as scratch, Progress("speed", total) as progress:
        jobs: dict[str, Job] = {
            title: ClassifierJob(cell, settings, OURS, "eager", Path(scratch), fold=False)
            for title, cell in cells.items()
        }
        # unchecked: there is nothing else to compare with
        found = measure_in_turns(jobs, rounds=settings.rounds, seed=settings.seed, check=False, report=progress.update)
        progress.update(total)
    return [_speed(cell, found[title]) for title, cell in cells.items()]


def _speed(cell: Cell, found: Measurement) -> ModelSpeed:
    return ModelSpeed(
        *(cell.model, cell.work, cell.batch),
        layout="" if found.choice is None else found.choice.best,
        seconds=found.seconds,
        memory=found.memory,
        note=found.failed,
    )
