"""Every number of a recipe has limits, and what lies outside of them is refused by name."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from convnext.core.errors import UserError
from convnext.core.typed import from_dict, to_dict
from convnext.recipes.limits import TRAINING, TRAINING_LISTS, lies_in, numbers, setting
from convnext.tasks.classification.recipe import ClassificationRecipe
from convnext.tasks.recipes import all_recipes, check_recipe, find_recipe
from convnext.tasks.table import TASKS


def changed(name: str, value: Any) -> ClassificationRecipe:
    values = to_dict(find_recipe("demo"))
    part, field = name.split(".")
    values[part][field] = value
    return from_dict(ClassificationRecipe, values)


UNLIMITED = (
    *("stem_stride", "output_stride"),  # named
    *("layer_scale_init_value", "kernel_size", "patch_size", "window_size", "img_size"),  # None
)


@pytest.mark.parametrize("spec", TASKS.values(), ids=TASKS)
def test_every_number_of_a_recipe_has_limits(spec: Any) -> None:
    recipe = next(iter(spec.recipes().values()))()
    limited = {*TRAINING, *spec.limits().numbers}
    both = (set(numbers(recipe)), limited)
    without, expected = ({n for n in names if not n.endswith(UNLIMITED)} for names in both)
    assert without == expected


@pytest.mark.parametrize("name", all_recipes())
def test_every_recipe_is_within_them(name: str) -> None:
    check_recipe(find_recipe(name))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("optim.lr", 0.0),
        ("optim.lr", float("nan")),
        ("optim.layer_decay", 1.5),
        ("ema.decay", 1.0),
        ("model.drop_path_rate", 1.0),
        ("model.in_chans", 0),
        ("loader.bands", 0),
        ("mix.mixup", -0.1),
        ("schedule.epochs", 0.0),
        ("loop.log_steps", 0),
        ("input.crop_ratio", 0.0),
        ("loader.workers", -2),
        ("optim.betas", [0.9, 1.0]),
        ("augment.scale", [0.0, 1.0]),
        ("augment.scale", [1.0, 0.5]),
    ],
)
def test_what_cannot_work_is_refused(name: str, value: Any) -> None:
    with pytest.raises(UserError, match="--" + name.replace("_", "-").replace(".", r"\.")):
        check_recipe(changed(name, value))


def test_a_warm_up_has_one_length() -> None:
    recipe = find_recipe("coco/mask_rcnn_convnext_tiny")
    check_recipe(recipe)
    both = dataclasses.replace(recipe, schedule=dataclasses.replace(recipe.schedule, warmup_epochs=1.0))
    with pytest.raises(UserError, match=r"--schedule\.warmup-epochs 1 or --schedule\.warmup-steps 500"):
        check_recipe(both)


@pytest.mark.parametrize(
    ("value", "limits", "inside"),
    [(0, "[0, 1)", True), (1, "[0, 1)", False), (0, "(0, 1]", False), (1, "(0, 1]", True), (9e9, "[0, inf)", True)],
)
def test_intervals(value: float, limits: str, inside: bool) -> None:
    assert lies_in(value, limits) is inside


def test_the_standard_deviation_of_colours_is_positive() -> None:
    with pytest.raises(UserError, match=r"input\.std"):
        check_recipe(changed("input.std", [0.2, 0.0, 0.2]))


@pytest.mark.parametrize("spec", TASKS.values(), ids=TASKS)
def test_names_stand_for_settings(spec: Any) -> None:
    recipe, limits = next(iter(spec.recipes().values()))(), spec.limits()
    for name in (*TRAINING, *TRAINING_LISTS, *limits.numbers, *limits.lists, *limits.ascending, *limits.positive):
        setting(recipe, name)
    assert setting(recipe, "optim.lr") == recipe.optim.lr
