"""What a task makes of a path: data of its own, nearly so, or not at all. `tasks.choose` asks every task."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mine:
    """The path holds data of this task."""

    reason: str
    """What shows it, as "annotations/instances_train.json is in COCO's form"."""


@dataclass(frozen=True)
class Nearly:
    """The path would be data of this task if one thing were different."""

    missing: str
    """What is missing or odd, and what to do: whole sentences."""


@dataclass(frozen=True)
class NotMine:
    """Nothing here looks like data of this task."""


Verdict = Mine | Nearly | NotMine
