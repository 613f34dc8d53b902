"""The data that a recipe, a run or options mean, opened once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from convnext.core.errors import UserError
from convnext.data.dataset import DataModule
from convnext.data.splits import Record
from convnext.recipes.limits import setting
from convnext.recipes.recipe import Recipe
from convnext.tasks.choose import check_data
from convnext.tasks.recipes import task_of
from convnext.tasks.spec import EvaluateOptions
from convnext.weights.locate import BEST, WeightFile

RECIPE, SPLIT = "recipe.json", "split.json"


def open_data(recipe: Recipe) -> DataModule[Any]:
    """The data of a recipe, opened once. Raises UserError where it is not data of the recipe's task."""
    spec, options = task_of(recipe), data_options(recipe)
    check_data(spec, recipe.data, options, why=f"the recipe {recipe.name} trains a {spec.texts.model}")
    return spec.open_data(recipe.data, options)


def data_options(recipe: Recipe) -> dict[str, str]:
    """The settings of a recipe that say how its data is opened, besides those of the loader."""
    return {name: str(setting(recipe, name)) for name in task_of(recipe).data_options}


def run_of(file: WeightFile) -> Path:
    """The folder of the run that a file is of. Raises UserError where it is of none."""
    run = file.file.parent if file.file.name == BEST else Path(file.source)
    folder = run if run.is_dir() else run.parent
    if not (folder / RECIPE).is_file():
        raise UserError(f"{folder} is not a run's folder (it has no {RECIPE}): say which images, with --data DIR.")
    return folder


def given(options: EvaluateOptions, name: str) -> str:
    """The value of an option as "table.image"; "" where a task's options have none of that name."""
    value: Any = options
    for part in name.split("."):
        value = getattr(value, part, "")
    return str(value)


def split_of(out: Path) -> Record:
    """The images that a run held out. Raises UserError where its folder does not say that."""
    try:
        split: Any = json.loads((out / SPLIT).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{out / SPLIT}, which says what the run held out, cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{out / SPLIT}, which says what the run held out, is not JSON: {error}.") from None
    if not isinstance(split, dict):
        raise UserError(f"{out / SPLIT} does not say what the run held out: it needs 'seed', 'fraction' and 'val'.")
    return split
