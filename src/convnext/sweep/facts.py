"""What a sweep needs to know of the data before anything is run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from convnext.core.errors import UserError
from convnext.core.logs import say
from convnext.data.classification.dataset import several_labels
from convnext.data.classification.open import ClassificationData


@dataclass(frozen=True)
class Facts:
    """What a plan needs to know of the data."""

    train: int
    val: int
    classes: int


def look_at(data: str, recipe: Any) -> Facts:
    """Opens the data as every run will. Raises UserError for a layout that is not accepted, before anything is run."""
    opened = ClassificationData(data).splits(recipe.loader, seed=recipe.loop.seed)
    if not opened.held_out:
        raise UserError(f"{data} has no images to hold out, on which models are compared: add some, or a folder val.")
    if several_labels(opened.train):
        raise UserError(f"{data} has several labels for an image; models are compared on images with one class each.")
    say(f"- {opened.note}")
    return Facts(len(opened.train), len(opened.val), len(opened.train.classes))
