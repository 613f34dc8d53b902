"""A run's folder as the report reads it: whatever is there, and a list in words of what is not.

Nothing in the folder is trusted: files may be cut short by a kill, and names may try to lead elsewhere.
"""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convnext.core.errors import UserError
from convnext.core.logs import read_log

Values = dict[str, Any]

_PNG = b"\x89PNG\r\n\x1a\n"
_IMAGE_LIMIT = 4 << 20  # bytes; a thumbnail has some kilobytes, two scenes side by side about a million


@dataclass(frozen=True)
class RunFolder:
    """What a run left behind. `recipe` and `evaluation` are None and `events` is empty where the file is not there."""

    path: Path
    recipe: Values | None
    evaluation: Values | None
    events: list[Values]
    missing: list[str]  # sentences for people

    def of(self, event: str) -> list[Values]:
        """The events of a kind, in the log's order."""
        return [entry for entry in self.events if entry.get("event") == event]

    def last(self, event: str) -> Values:
        """The last event of a kind, empty if there is none."""
        return (self.of(event) or [{}])[-1]

    def image(self, name: Any) -> str | None:
        """A PNG of this folder as a data: address; None if it is not there, not a PNG, or outside the folder."""
        if not isinstance(name, str) or not name or "\0" in name:
            return None
        try:
            file = (self.path / name).resolve()
            inside = file.is_relative_to(self.path.resolve()) and file.is_file()
            content = file.read_bytes() if inside and file.stat().st_size <= _IMAGE_LIMIT else b""
        except (OSError, RuntimeError, ValueError):  # a name too long, a loop of links, a lone surrogate
            return None
        return f"data:image/png;base64,{base64.b64encode(content).decode()}" if content.startswith(_PNG) else None


def open_run(path: Path) -> RunFolder:
    """Reads a run's folder. Raises UserError if there is no such folder or nothing of a run in it."""
    if not path.is_dir():
        what = "is a file, not a run's folder" if path.exists() else "does not exist"
        raise UserError(f"'{path}' {what}. `convnext train --data DIR` makes a run and says where it is.")
    if not any((path / name).is_file() for name in ("recipe.json", "log.jsonl", "evaluation.json")):
        raise UserError(
            f"'{path}' is not a run's folder: it has neither recipe.json nor log.jsonl nor evaluation.json. "
            "`convnext train --data DIR` makes one and says where it is."
        )
    missing: list[str] = []
    recipe = _json(path / "recipe.json", missing, without="the settings of the run are not known")
    evaluation = _json(path / "evaluation.json", missing, without="figures come from the log, without classes")
    return RunFolder(path, recipe, evaluation, _events(path / "log.jsonl", missing), missing)


def _json(file: Path, missing: list[str], *, without: str) -> Values | None:
    if not file.is_file():
        missing.append(f"There is no {file.name}: {without}.")
        return None
    try:
        values = json.loads(file.read_text(encoding="utf-8-sig"))
        if isinstance(values, dict):
            return values
        problem = "it does not hold an object of named values"
    except (OSError, ValueError, RecursionError) as error:
        problem = str(error)
    missing.append(f"{file.name} cannot be read ({problem}): {without}.")
    return None


def _events(file: Path, missing: list[str]) -> list[Values]:
    try:
        events = [event for event in read_log(file) if isinstance(event, dict)]
    except (OSError, ValueError, RecursionError) as error:
        missing.append(f"{file.name} cannot be read ({error}): there are no curves.")
        return []
    kinds = {event.get("event") for event in events if isinstance(event.get("event"), str)}
    if not events:
        missing.append("There is no log.jsonl, or nothing in it: there are no curves.")
    elif "end" not in kinds:
        missing.append("The log has no end: the run was stopped or is still going. These are the figures so far.")
    if events and "eval" not in kinds:
        missing.append("The log has no validation yet.")
    return events


def finite(value: Any) -> float | None:
    """A number from a file as a float; None for anything else, NaN and infinities among it."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer of hundreds of digits
        return None


def entries(values: Values | None, key: str) -> list[Values]:
    """The list of objects under `key`; what is not an object is left out."""
    found = (values or {}).get(key)
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
