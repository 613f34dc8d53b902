"""The preprocessing of any model as a function of one image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from convnext.core.errors import UserError
from convnext.recipes.recipe import Recipe
from convnext.tasks.choose import find_weights, read_metadata
from convnext.tasks.recipes import read_recipe, task_of
from convnext.tasks.table import TASKS
from convnext.weights.files import Metadata


def transform_for(model: Any, *, train: bool = False) -> Callable[[Any], Tensor]:
    """As `convnext.transform_for`."""
    if isinstance(model, Recipe):
        spec, recipe = task_of(model), cast(Any, model)
        make = cast(Callable[..., Metadata], spec.metadata_type())
        return spec.transform_for(make(recipe.model, recipe.input), model if train else None)
    recipe = None
    if train:
        folder = Path(model) if isinstance(model, (str, Path)) else None
        if folder is None or not (folder / "recipe.json").is_file():
            raise UserError(
                "How training images are augmented stands in a recipe: give one, or a run's folder, for train=True."
            )
        recipe = read_recipe(folder / "recipe.json")
    if isinstance(model, (str, Path)):
        spec, file = find_weights(model)
        metadata = spec.load(file)[1] if file.values is None else read_metadata(file)
        return spec.transform_for(metadata, recipe)
    metadata = getattr(model, "metadata", model)
    if getattr(metadata, "task", None) not in TASKS:
        raise UserError(
            f"{type(model).__name__} does not say how its images are prepared: give a predictor, what load_model "
            "returned, metadata, a recipe, or a run's folder."
        )
    return TASKS[metadata.task].transform_for(metadata, recipe)
