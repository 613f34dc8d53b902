"""convnext recipes [NAME]"""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from convnext.cli.output import emit, emit_json, parse, table
from convnext.core.typed import to_dict
from convnext.tasks.recipes import all_recipes, describe_recipe, find_recipe


@dataclass(frozen=True)
class Recipes:
    """Lists the recipes, or shows one whole.

    For example:
      convnext recipes                             all of them
      convnext recipes imagenet/convnext_tiny      what it does, its command, every setting
    """

    name: tyro.conf.Positional[str | None] = None
    """A recipe."""
    json: bool = False
    """Print as JSON."""


def run(argv: list[str]) -> None:
    args = parse(Recipes, argv, command="recipes")
    if args.name:
        values = to_dict(find_recipe(args.name))
        if not args.json:
            emit(describe_recipe(args.name) + "\n")
        emit_json(values)
    elif args.json:
        emit_json({name: describe_recipe(name) for name in all_recipes()})
    else:
        emit(table([(name, describe_recipe(name).split("\n", 1)[0]) for name in all_recipes()], header=("recipe", "")))
