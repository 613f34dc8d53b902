"""Progress and messages for people, and a run's log for programs.

A terminal gets a progress bar with rate and time left. A pipe or a cluster's log file gets a plain line every few
seconds. The log of a run is JSON Lines: one object a line, flushed at once, so that a killed run keeps its log.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from convnext.core.atomic import FullDisk, is_full, write_text
from convnext.core.errors import UserError
from convnext.core.strict_json import to_json
from convnext.core.text import one_line, safe

T = TypeVar("T")
_PLAIN_INTERVAL = 10.0  # seconds between plain progress lines


def say(text: str) -> None:
    """Prints a line to standard error, control characters as "?". Standard output is for results."""
    print(safe(text), file=sys.stderr, flush=True)  # noqa: T201


def duration(seconds: float) -> str:
    """Formats seconds: 9s, 2m05s, 3h20m."""
    seconds = round(max(seconds, 0.0))
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"


def seconds_in(text: str) -> float:
    """Seconds in a text as 90m, 8h, 1h30m, 45s. Raises UserError for another."""
    found = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text.strip())
    if found is None or not any(found.groups()):
        raise UserError(f"A budget is a time as 90m, 8h or 1h30m, not '{text}'.")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds


class Progress:
    """Shows progress over `total` steps: a bar in a terminal, plain lines elsewhere. Use it as a context manager."""

    def __init__(self, title: str, total: int, *, unit: str = "it", start: int = 0) -> None:
        self.title, self.total, self.unit, self.done, self.first = one_line(title), total, unit, start, start
        self._begun = self._printed = time.monotonic()
        self._bar: Any = None
        self._note = ""
        self._said = -1  # steps done when the last plain line was printed

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            title = TextColumn("{task.description}", markup=False)  # a name may have brackets
            columns = [title, BarColumn(bar_width=12), TextColumn("{task.fields[note]}", markup=False)]
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.total, completed=self.done, note="")
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif kind is None and self._said not in (-1, self.done):
            say(self.line())  # the last line, where there was a line before it

    @property
    def rate(self) -> float:
        """Steps a second since the start."""
        return (self.done - self.first) / max(time.monotonic() - self._begun, 1e-9)

    def line(self) -> str:
        """The progress in one line: steps done, rate and time left."""
        share = 100 * self.done // max(self.total, 1)
        note = f"  {self._note}" if self._note else ""
        return (
            f"{self.title} {self.done}/{self.total} ({share}%){note}  {self.rate:.1f} {self.unit}/s  {self.left()} left"
        )

    def left(self) -> str:
        """The time left at the rate so far, "?" before the first step."""
        return duration((self.total - self.done) / self.rate) if self.done > self.first else "?"

    def update(self, done: int, note: str = "") -> None:
        """Sets the number of steps done. `note` is shown beside it."""
        self.done, self._note = done, one_line(note)
        now = time.monotonic()
        if self._bar is not None:
            # It has to fit in 80 columns beside the bar: the time left comes before the note, which may be cut off.
            rate = "" if note else f"{self.rate:.1f} {self.unit}/s"
            text = f"{done}/{self.total}  {self.left()} left  {note}{rate}"
            self._bar.update(self._task, completed=done, description=self.title, note=text)
        elif now - self._printed >= _PLAIN_INTERVAL:
            self._printed, self._said = now, done
            say(self.line())


def track(items: Iterable[T], title: str, total: int, *, unit: str = "it") -> Iterator[T]:
    """Yields the items while showing progress."""
    with Progress(title, total, unit=unit) as progress:
        for number, item in enumerate(items, 1):
            yield item
            progress.update(number)


class RunLog:
    """The JSON Lines log of a run: each line is `{"event": "step", ...}`.

    With `resume_step`, opening it drops what was logged after that step, so that no step is logged twice, and a last
    line that a kill cut short.
    """

    def __init__(self, path: Path, *, resume_step: int | None = None) -> None:
        self.path = path
        kept: list[dict[str, Any]] = []
        if resume_step is not None:
            kept = [event for event in read_log(path) if _step(event) <= resume_step]
        write_text(path, "".join(to_json(event) + "\n" for event in kept))

    def write(self, event: str, **values: Any) -> None:
        """Appends one event. NaN and infinities become null: JSON has neither. Raises FullDisk."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(to_json({"event": event, **values}) + "\n")
        except OSError as error:
            if is_full(error):
                raise FullDisk(self.path) from error
            raise


def _step(event: dict[str, Any]) -> float:
    """The step of a line of the log; 0 where it has none, or was edited to something else."""
    step = event.get("step", 0)
    return step if isinstance(step, int | float) else 0


def read_log(path: Path) -> list[dict[str, Any]]:
    """The events of a run's log. Leaves out a last line that a kill cut short; empty if there is no file."""
    events: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines() if path.exists() else []:
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(event, dict):
            events.append(cast("dict[str, Any]", event))
    return events
