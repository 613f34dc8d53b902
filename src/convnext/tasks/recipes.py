"""Recipes of every task: by name, from a file, into a file. No torch here."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

from convnext.core.atomic import write_text
from convnext.core.errors import UserError, nearest
from convnext.core.text import printable
from convnext.core.typed import from_dict, to_dict
from convnext.recipes.limits import check_limits, numbers, setting
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

    Raises UserError, with the file's name, for one that is not there or not JSON, or a field unknown or wrong.
    """
    shown = printable(str(path))
    if path.exists() and not path.is_file():
        raise UserError(f"{shown} is {'a folder' if path.is_dir() else 'a pipe or a device'}, not a recipe file.")
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"There is no recipe file {shown}.") from None
    except OSError as error:
        raise UserError(f"{shown} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{shown} is not JSON: {error}.") from None
    if not isinstance(values, dict):
        raise UserError(f"{shown} is no recipe: an object of named settings is expected, not {str(values)[:40]}.")
    given = cast("dict[str, Any]", values)
    task = given.pop("task", _FIRST)
    if not isinstance(task, str) or task not in TASKS:
        raise UserError(f"{shown} is a recipe for '{str(task)[:40]}'; known are {', '.join(TASKS)}.")
    kind = TASKS[task].recipe_type()
    try:
        recipe = from_dict(kind, kind.migrated(given))
        wrong = [name for name, value in numbers(recipe).items() if not math.isfinite(value)]
        if wrong:
            raise UserError(f"'{wrong[0]}' takes a finite number, not {setting(recipe, wrong[0])}.")
    except UserError as error:
        raise UserError(f"{shown}: {error}") from None
    return recipe
