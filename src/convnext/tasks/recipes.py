"""Recipes of every task: by name, from a file, into a file. No torch here."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from convnext.core.atomic import write_text
from convnext.core.errors import UserError, nearest
from convnext.core.typed import from_dict, to_dict
from convnext.recipes.limits import check_limits
from convnext.recipes.recipe import Recipe
from convnext.tasks.spec import TaskSpec
from convnext.tasks.table import TASKS

_FIRST = "classify"  # the task of recipe files that name none: the first version knew no other
_RENAMED = {"ade20k/light_convnext_tiny": "ade20k/mlp_convnext_tiny"}


def all_recipes() -> dict[str, Callable[[], Recipe]]:
    """Every recipe by name, task by task."""
    return {name: function for spec in TASKS.values() for name, function in spec.recipes().items()}


def find_recipe(name: str) -> Recipe:
    """The recipe of that name. Raises UserError with the nearest names where there is none."""
    recipes, name = all_recipes(), _RENAMED.get(name, name)
    if name not in recipes:
        raise UserError(f"There is no recipe '{name}'.{nearest(name, recipes)} `convnext recipes` lists them all.")
    return recipes[name]()


def describe_recipe(name: str) -> str:
    """The docstring of a recipe's function: what it trains, its command, what to expect."""
    function = all_recipes()[name]
    text = (function.func if isinstance(function, partial) else function).__doc__ or ""
    return "\n".join(line.strip() for line in text.strip().splitlines())


def task_of(recipe: Recipe) -> TaskSpec:
    """The task of a recipe. Raises UserError for one of a task that is not in `TASKS`."""
    if recipe.task not in TASKS:
        raise UserError(f"The recipe {recipe.name} is of the task '{recipe.task}'; known are {', '.join(TASKS)}.")
    return TASKS[recipe.task]


def check_recipe(recipe: Recipe) -> None:
    """Raises UserError naming the first setting whose value cannot work, and what it may be."""
    check_limits(recipe, task_of(recipe).limits())


def save_recipe(path: Path, recipe: Recipe) -> None:
    """Writes the recipe as JSON, with the name of its task."""
    write_text(path, json.dumps({"task": recipe.task, **to_dict(recipe)}, indent=2) + "\n")


def read_recipe(path: Path) -> Recipe:
    """A recipe from JSON; one that names no task is a classifier's.

    Raises UserError for a file that is not there or not JSON, or a field unknown or wrong.
    """
    try:
        values: Any = json.loads(path.read_text())
    except OSError:
        raise UserError(f"There is no recipe file {path}.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not JSON: {error}.") from None
    task = values.pop("task", _FIRST) if isinstance(values, dict) else _FIRST
    if task not in TASKS:
        raise UserError(f"{path} is a recipe for '{task}'; known are {', '.join(TASKS)}.")
    kind = TASKS[task].recipe_type()
    return from_dict(kind, kind.migrated(values) if isinstance(values, dict) else values)
