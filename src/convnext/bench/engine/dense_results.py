"""Results of detectors and segmenters: as data, as a table and as a page. No torch here.

The names of fields are those in files.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from convnext.bench.engine.cells import DType
from convnext.bench.engine.results import Machine, Trial, three_figures
from convnext.bench.engine.speedup import Speedup, compare, relative_iqr
from convnext.core.typed import to_dict
from convnext.models.detection.config import DetectorConfig
from convnext.models.segmentation.config import SegmenterConfig

Contestant = Literal["convnext", "torchvision heads", "torchvision", "transformers"]
Work = Literal["inference", "train"]

OURS: Contestant = "convnext"
HEADER = ("work", "contestant", "layout", "images/s", "noise", "memory", "regions", "masks", "ours is")


@dataclass(frozen=True)
class DensePlan:
    """What to measure, and how."""

    model: str
    config: DetectorConfig | SegmenterConfig
    size: tuple[int, int]
    """Height and width of the images."""
    batch: int = 1
    dtype: DType = "float32"
    works: tuple[Work, ...] = ("inference", "train")
    seconds: float = 1.0
    """The time slice of a contestant in a round; a contestant whose one call takes longer runs once."""
    rounds: int = 7
    threads: int = 1
    device: str = "cpu"
    seed: int = 0
    """Of the weights, the images and the order of contestants in each round."""


@dataclass(frozen=True)
class Regions:
    """How many regions of all images go through the box head and the mask head in one call."""

    boxes: int
    masks: int


@dataclass(frozen=True)
class DenseEntry:
    """One contestant at one kind of work."""

    contestant: Contestant
    work: Work
    note: str = ""
    """Why it did not run."""
    choice: str = ""
    """The memory layout that was faster."""
    tried: tuple[Trial, ...] = ()
    regions: Regions | None = None
    """Of a detector."""
    seconds: tuple[float, ...] = ()
    """Of one call, round by round; empty if it did not run."""
    memory: int | None = None
    """Bytes that it adds to its process at most while it runs."""


@dataclass(frozen=True)
class DenseResult:
    """Everything that was measured in one run."""

    asked: DensePlan
    machine: Machine
    date: str
    entries: tuple[DenseEntry, ...] = field(default=())

    def images_per_second(self, entry: DenseEntry) -> float:
        return self.asked.batch / statistics.median(entry.seconds)

    def speedup_over(self, entry: DenseEntry) -> Speedup | None:
        """How many times as fast as `entry` ours is at the same work; None for ours, or if either did not run."""
        ours = next((e for e in self.entries if (e.contestant, e.work) == (OURS, entry.work)), None)
        if entry.contestant == OURS or not entry.seconds or ours is None or not ours.seconds:
            return None
        return compare([[seconds] for seconds in ours.seconds], [[seconds] for seconds in entry.seconds])


def summary(result: DenseResult, *, command: str) -> dict[str, Any]:
    """The result with its figures, for programs."""
    plain = to_dict(result)
    for entry, written in zip(result.entries, plain["entries"], strict=True):
        versus = result.speedup_over(entry)
        written |= {
            "images_per_second": result.images_per_second(entry) if entry.seconds else None,
            "ours_is_times_as_fast": None if versus is None else versus.ratio,
            "interval": None if versus is None else [versus.low, versus.high],
        }
    return {"command": command} | plain


def rows(result: DenseResult) -> list[tuple[str, ...]]:
    """A row for each contestant at each work, under `HEADER`."""
    return [_row(result, entry) for entry in result.entries]


def _row(result: DenseResult, entry: DenseEntry) -> tuple[str, ...]:
    if not entry.seconds:
        return (entry.work, entry.contestant, "", "", "", "", "", "", "")
    versus, regions = result.speedup_over(entry), entry.regions
    return (
        *(entry.work, entry.contestant, entry.choice, three_figures(result.images_per_second(entry))),
        f"{100 * relative_iqr(entry.seconds):.0f} %",
        "" if entry.memory is None else f"{entry.memory / 2**20:,.0f} MB",
        *(("", "") if regions is None else (f"{regions.boxes:,}", f"{regions.masks:,}")),
        "" if versus is None else f"{versus.ratio:.2f}x ({versus.low:.2f}-{versus.high:.2f})",
    )


def notes(result: DenseResult) -> list[str]:
    """Why some contestants did not run."""
    return [f"{entry.contestant} {entry.work}: {entry.note}" for entry in result.entries if entry.note]


def verdict(result: DenseResult) -> str:
    """Every speedup in words."""
    said = []
    for entry in result.entries:
        versus = result.speedup_over(entry)
        if versus is not None:
            said.append(f"{entry.work}: {versus.ratio:.2f} times as fast as {entry.contestant} ({versus.verdict})")
    return f"Ours in {'; in '.join(said)}." if said else "Nothing to compare: ours or all others failed."


def markdown(result: DenseResult, *, command: str, title: str, method: str) -> str:
    """The page: the command and the machine, the figures, and the method. title, method: of the comparison."""
    asked, machine = result.asked, result.machine
    lines = [
        f"# {title}",
        "",
        verdict(result),
        "",
        f"- command: `{command}`",
        f"- date: {result.date[:10]}",
        f"- machine: {machine.processor}, {machine.processors} processors, {machine.memory_gb} GB; {machine.system}",
        f"- versions: Python {machine.python}, {', '.join(machine.libraries)}",
        f"- {asked.model}, {asked.config.num_classes} classes, {asked.dtype}; images of {asked.size[0]} x "
        f"{asked.size[1]} pixels, {asked.batch} at a time; threads: {asked.threads}; device: {asked.device}; "
        f"{asked.rounds} rounds of {asked.seconds:g} s",
        "",
        *_table(rows(result)),
        "",
        *(text for note in notes(result) for text in (note, "")),
        "## How it was measured",
        "",
        method,
    ]
    return "\n".join(lines) + "\n"


def _table(cells: Sequence[Sequence[str]]) -> list[str]:
    left = ("work", "contestant", "layout")
    rule = "|".join(" --- " if name in left else " ---: " for name in HEADER)
    return [f"| {' | '.join(HEADER)} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in cells)]
