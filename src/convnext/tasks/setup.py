"""What a run is assembled from: everything that differs between classifying and detecting, ready for `run`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from convnext.core.errors import UserError
from convnext.train.loop import Plan
from convnext.train.task import Task
from convnext.weights.files import AnyMetadata


@dataclass(frozen=True)
class Setup:
    """The data, model and task of one recipe."""

    num_images: int
    """Training images of one epoch."""
    split: dict[str, Any]
    """Which images were held out, to be saved."""
    build: Callable[[bool], tuple[nn.Module, list[str]]]
    """The model on its device, the same on every rank, and the names that `init` did not provide; the argument says
    whether to look at `init` at all."""
    task: Callable[[Plan], Task]
    metadata: AnyMetadata
    """What a saved model knows about itself."""
    name: str
    """What the model is called."""
    facts: Mapping[str, Any]
    """For the first line of the log."""
    notes: tuple[str, ...]
    """For people: what was found."""
    warnings: Callable[[Plan], list[str]]
    """What will probably go wrong: sentences, each with the setting to change."""


def facts(*, train: int, val: int, held_out: bool, classes: int) -> dict[str, Any]:
    """How many images and classes there are, as the log names them."""
    return {"train_images": train, "val_images": val, "held_out": held_out, "classes": classes}


def check_num_classes(asked: int, found: int) -> None:
    """Raises UserError where a recipe asks for other than the data's number of classes (0: as many as there are)."""
    if asked not in (0, found):
        raise UserError(f"The data has {found} classes: leave out --model.num-classes {asked}.")
