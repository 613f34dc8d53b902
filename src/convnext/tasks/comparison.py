"""Two models of one task on the same images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convnext.core.errors import UserError
from convnext.core.logs import say
from convnext.data.splits import Record
from convnext.recipes.recipe import Recipe
from convnext.tasks.choose import check_data, find_weights
from convnext.tasks.opening import RECIPE, given, open_data, run_of, split_of
from convnext.tasks.recipes import read_recipe
from convnext.weights.locate import WeightFile


def compare(
    first: str | Path | WeightFile,
    second: str | Path | WeightFile,
    *,
    data: str | Path = "",
    options: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], str]:
    """Two models of one task on the same images, as JSON values and in words.

    data: a path; without it, the images that the first model's run held out. options: of the task's evaluation, by
    name. Raises UserError where the two are of different tasks, or of one whose models are not compared.
    """
    (spec, file), (other, against) = find_weights(first), find_weights(second)
    if spec is not other:
        raise UserError(
            f"{file.source} is a {spec.texts.model} and {against.source} a {other.texts.model}: two of one task can be "
            "compared."
        )
    if spec.compare is None or spec.comparison_text is None:
        raise UserError(f"{spec.texts.model.capitalize()}s are not compared image by image: `convnext evaluate` each.")
    asked = spec.evaluate_options()(**dict(options or {}))
    if data:
        opening = {name: given(asked, name) for name in spec.data_options}
        check_data(spec, str(data), opening, why=f"{file.source} is a {spec.texts.model}")
        figures = spec.compare(file, against, asked, spec.open_data(str(data), opening), None, None)
    else:
        run = run_of(file)
        recipe = read_recipe(run / RECIPE)
        figures = spec.compare(file, against, asked, open_data(recipe), recipe, split_of(run))
        _warn_of_training(against, recipe, split_of(run))
    return figures, spec.comparison_text(figures)


def _warn_of_training(against: WeightFile, recipe: Recipe, split: Record) -> None:
    """Says where the second model may have been trained on images that the first one's run held out."""
    try:
        run = run_of(against)
        same = read_recipe(run / RECIPE).data == recipe.data and split_of(run).get("val") == split.get("val")
        why = f"its run {run} held out other images"
    except UserError:
        same, why = False, "it is of no run that says what it held out"
    if not same:
        say(f"- {against.source} may have been trained on some of these images: {why}")
