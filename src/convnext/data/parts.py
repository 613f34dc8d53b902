"""Parts of a data set by their names: train, val, test, in the spellings that people and tools use."""

from __future__ import annotations

import re
from collections.abc import Iterable

PARTS = ("train", "val", "test")
_NAME = re.compile(
    r"(?P<part>train|training|val|valid|validation|validate|dev|eval|evaluation|test|testing)"
    r"[ _.-]?(set|data|dataset|images?|imgs?|split|part)?[ _.-]?\d*"
)
_SPELT = {"train": "train", "training": "train", "test": "test", "testing": "test"}


def part_of(name: str) -> str:
    """The part that a folder or file (without its ending) names: "train", "val", "test"; "" where it names none.

    Any letter case; with a word for data or a number behind, as "Training", "val_set", "test-images", "train2017".
    """
    match = _NAME.fullmatch(name.strip().lower())
    return _SPELT.get(match["part"], "val") if match else ""


def parts_among(names: Iterable[str]) -> dict[str, list[str]]:
    """Part -> those of the names that name it, sorted; parts in the order of `PARTS`, without those that none names."""
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        if part := part_of(name):
            found.setdefault(part, []).append(name)
    return {part: found[part] for part in PARTS if part in found}
