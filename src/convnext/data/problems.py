"""What is wrong in an annotation file: collected, counted, reported once."""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any, TypeGuard

from convnext.core.text import printable

_EXAMPLES = 3


class Problems:
    """What is wrong in the file `path`: kinds of problems, how often each, the first examples."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}

    def add(self, kind: str, example: str) -> None:
        """Counts one. kind: a plural, as "boxes without area"."""
        self.found[kind] = self.found.get(kind, 0) + 1
        if self.found[kind] <= _EXAMPLES:
            self._examples.setdefault(kind, []).append(example)

    def text(self, lost: int) -> str:
        """All of it, and what to do. lost: annotations that would go with their images."""
        if not self.found:
            return "Nothing in it is wrong, but there is nothing in it."
        and_lost = f", and {lost:,} annotations of such images" if lost else ""
        return (
            f"{self.path} has {sum(self.found.values()):,} problems:\n{self._lines()}\n"
            f"Repair them, or leave out what they concern{and_lost}: --loader.skip-bad in "
            "`convnext train`, --skip-bad in `convnext evaluate`"
        )

    def note(self, lost: int) -> str:
        """What was left out; empty where nothing is wrong."""
        if not self.found:
            return ""
        and_lost = f"\n    {lost:,} annotations of images that were left out" if lost else ""
        return f"Left out of {self.path} (--loader.skip-bad):\n{self._lines()}{and_lost}\n"

    def _lines(self) -> str:
        return "\n".join(
            f"    {count:,} {kind}, as {'; '.join(self._examples[kind])}" for kind, count in self.found.items()
        )


def is_id(value: Any) -> TypeGuard[int]:
    """Whether it can be the number of an image, a category or an annotation: whole, 0 or more, within 63 bits."""
    return type(value) is int and 0 <= value < 1 << 63


def short(value: Any) -> str:
    """A value of the file as an example for people: its first few parts, printable."""
    return printable(reprlib.repr(value))
