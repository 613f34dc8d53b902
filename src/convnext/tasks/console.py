"""What the consoles of all tasks share: which images were evaluated, what was skipped, the worst classes, weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convnext.core.console import few, table
from convnext.core.typed import to_dict

_LISTED = 20  # classes


def evaluated(figures: Mapping[str, Any], *, more: str = "") -> list[tuple[str, str]]:
    """Model and data of an evaluation; more: about the data, as ", 12 objects"."""
    trained = "  (THESE WERE TRAINED ON: no measure of new images)" if figures["held_out"] is False else ""
    return [
        ("model", str(figures["model"])),
        ("data", f"{figures['data']}: {figures['n']} images{more}{trained}"),
    ]


def skipped(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The images that could not be read, if any."""
    names = [entry["name"] for entry in figures["skipped"]]
    return [("skipped", f"{len(names)} unreadable images, e.g. {names[0]}")] if names else []


def worst_classes(rows: Sequence[Sequence[str]], *, header: Sequence[str]) -> str:
    """A table of classes, the worst first: twenty of them."""
    text = table(rows[:_LISTED], header=("class, worst first", *header))
    return text if len(rows) <= _LISTED else f"{text}\n... and {len(rows) - _LISTED} more (--json has them all)"


def held_out(figures: Mapping[str, Any]) -> str:
    """On which images figures were taken, in words."""
    if figures["held_out"]:
        return f"{figures['n']} held-out images"
    return f"the {figures['n']} TRAINING images (none were held out)"


def network_facts(network: Any, metadata: Any) -> dict[str, Any]:
    """What a file of a network with heads holds, as JSON values."""
    return {
        "model": to_dict(metadata.model),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "input": to_dict(metadata.input),
        "classes": list(metadata.classes),
        "source": metadata.source,
    }


def class_names(metadata: Any) -> list[tuple[str, str]]:
    """How many classes, the first of them, and where the weights are from."""
    names = f": {few(metadata.classes)}" if metadata.classes else ""
    lines = [("classes", f"{metadata.model.num_classes}{names}")]
    return [*lines, ("source", metadata.source)] if metadata.source else lines
