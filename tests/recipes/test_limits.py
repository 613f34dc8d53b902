"""Every number of a recipe has limits, and what lies outside of them is refused by name."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from convnext.core.errors import UserError
from convnext.core.typed import from_dict, to_dict
from convnext.recipes.limits import LIMITS, PAIRS, check_limits, lies_in, numbers, setting
from convnext.recipes.recipe import ClassificationRecipe, DetectionRecipe
from convnext.recipes.table import RECIPES, find_recipe


def changed(name: str, value: Any) -> ClassificationRecipe:
    values = to_dict(find_recipe("demo"))
    part, field = name.split(".")
    values[part][field] = value
    return from_dict(ClassificationRecipe, values)


def test_every_number_has_limits() -> None:
    unset = {"model.layer_scale_init_value", "model.kernel_size"}  # None
    optional = {*unset, "model.stem_stride", "model.output_stride"}  # named strides
    assert set(numbers(find_recipe("demo"))) - optional == set(LIMITS[ClassificationRecipe]) - optional


def test_every_number_of_a_detector_has_limits() -> None:
    recipe = find_recipe("small/mask_rcnn")
    unset = {"model.backbone.stem_stride", "model.backbone.output_stride"}  # named strides
    optional = {"model.backbone.layer_scale_init_value", "model.backbone.kernel_size", *unset}
    assert set(numbers(recipe)) - optional == set(LIMITS[DetectionRecipe]) - optional


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_within_them(name: str) -> None:
    check_limits(find_recipe(name))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("optim.lr", 0.0),
        ("optim.lr", float("nan")),
        ("optim.layer_decay", 1.5),
        ("ema.decay", 1.0),
        ("model.drop_path_rate", 1.0),
        ("model.in_chans", 1),
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
        check_limits(changed(name, value))


def test_a_warm_up_has_one_length() -> None:
    recipe = find_recipe("coco/mask_rcnn_convnext_tiny")
    check_limits(recipe)
    both = dataclasses.replace(recipe, schedule=dataclasses.replace(recipe.schedule, warmup_epochs=1.0))
    with pytest.raises(UserError, match=r"--schedule\.warmup-epochs 1 or --schedule\.warmup-steps 500"):
        check_limits(both)


@pytest.mark.parametrize(
    ("value", "limits", "inside"),
    [(0, "[0, 1)", True), (1, "[0, 1)", False), (0, "(0, 1]", False), (1, "(0, 1]", True), (9e9, "[0, inf)", True)],
)
def test_intervals(value: float, limits: str, inside: bool) -> None:
    assert lies_in(value, limits) is inside


def test_the_standard_deviation_of_colours_is_positive() -> None:
    with pytest.raises(UserError, match=r"input\.std"):
        check_limits(changed("input.std", [0.2, 0.0, 0.2]))


def test_names_stand_for_settings() -> None:
    recipe = find_recipe("demo")
    for kind, example in ((ClassificationRecipe, recipe), (DetectionRecipe, find_recipe("small/mask_rcnn"))):
        for name in {**LIMITS[kind], **PAIRS[kind]}:
            setting(example, name)
    assert setting(dataclasses.replace(recipe), "optim.lr") == recipe.optim.lr
