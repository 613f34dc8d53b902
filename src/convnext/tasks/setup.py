"""What a run is assembled from: everything that differs between tasks, ready for `run`."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from convnext.core.errors import UserError
from convnext.data.dataset import Dataset
from convnext.data.decode import BadImage
from convnext.data.loader import BadImages
from convnext.data.splits import Splits
from convnext.recipes.recipe import Recipe
from convnext.tasks.base_task import BaseTask
from convnext.training.loop import Plan
from convnext.weights.files import Metadata
from convnext.weights.locate import WeightFile


@dataclass(frozen=True)
class Setup:
    """The data, model and task of one recipe."""

    num_images: int
    """Training images of one epoch."""
    split: dict[str, Any]
    """Which images were held out, to be saved."""
    build: Callable[[WeightFile | None], tuple[nn.Module, list[str]]]
    """The model on its device, the same on every rank, from weights to start from (None: newly initialised); and what
    those did not provide."""
    task: Callable[[Plan], BaseTask[Any, Any]]
    metadata: Metadata
    """What a saved model knows about itself."""
    name: str
    """What the model is called."""
    facts: Mapping[str, Any]
    """For the first line of the log."""
    notes: tuple[str, ...]
    """For people: what was found."""
    warnings: Callable[[Plan], list[str]]
    """What will probably go wrong: sentences, each with the setting to change."""


def facts(splits: Splits[Any], *, train: int, classes: int) -> dict[str, Any]:
    """How many images and classes there are, as the log names them. train: images that are trained on."""
    return {"train_images": train, "val_images": len(splits.val), "held_out": splits.held_out, "classes": classes}


def bad_images(splits: Splits[Any], recipe: Recipe) -> BadImages:
    """The count of unreadable images, over both parts."""
    images = len(splits.train) + (len(splits.val) if splits.held_out else 0)
    return BadImages(images, max_bad=recipe.loader.max_bad)


def check_num_classes(asked: int, found: int) -> None:
    """Raises UserError where a recipe asks for other than the data's number of classes (0: as many as there are)."""
    if asked not in (0, found):
        raise UserError(f"The data has {found} classes: leave out --model.num-classes {asked}.")


def median_side(dataset: Dataset, *, sample: int = 15) -> int:
    """The median shorter side, in pixels, of some images over the data. Raises UserError if none is readable."""
    sides = []
    for index in range(0, len(dataset), max(len(dataset) // sample, 1)):
        try:
            sides.append(min(dataset.read(index).shape[-2:]))
        except BadImage:
            continue
    if not sides:
        raise UserError("None of the images that were tried can be read; are they image files?")
    return int(statistics.median(sides))
