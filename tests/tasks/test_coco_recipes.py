"""The detectors' recipes: every number of the official configurations (object_detection/configs/convnext)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from convnext.models.config import ModelConfig
from convnext.models.detection.config import RoIConfig, RPNConfig, mask_rcnn
from convnext.tasks.detection.recipe import DetectionRecipe
from convnext.tasks.detection.recipes import PUBLISHED, fine_tuned, small_mask_rcnn
from convnext.tasks.recipes import all_recipes, check_recipe, find_recipe
from convnext.training.loop import make_plan

TRAIN2017 = 117_266  # pictures with objects that can be used

# (name, backbone, weights to start from, learning rate, layer decay, drop path, half precision)
TABLE = [
    ("mask_rcnn_convnext_tiny", "convnext_tiny", "convnext_tiny.fb_in1k_no_ema", 1e-4, 0.95, 0.4, True),
    ("cascade_mask_rcnn_convnext_tiny", "convnext_tiny", "convnext_tiny.fb_in1k_no_ema", 2e-4, 0.7, 0.4, True),
    ("cascade_mask_rcnn_convnext_small", "convnext_small", "convnext_small.fb_in1k_no_ema", 2e-4, 0.7, 0.6, True),
    ("cascade_mask_rcnn_convnext_base", "convnext_base", "convnext_base.fb_in1k_no_ema", 2e-4, 0.8, 0.7, True),
    ("cascade_mask_rcnn_convnext_base_22k", "convnext_base", "convnext_base.fb_in22k", 1e-4, 0.8, 0.6, True),
    ("cascade_mask_rcnn_convnext_large_22k", "convnext_large", "convnext_large.fb_in22k", 1e-4, 0.7, 0.7, False),
    ("cascade_mask_rcnn_convnext_xlarge_22k", "convnext_xlarge", "convnext_xlarge.fb_in22k", 1e-4, 0.7, 0.8, False),
]


def found(name: str) -> DetectionRecipe:
    recipe = find_recipe(name)
    assert isinstance(recipe, DetectionRecipe)
    return recipe


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
@pytest.mark.parametrize("end", ["", "_1x"])
def test_what_differs_between_the_models(row: tuple, end: str) -> None:
    name, backbone, init, lr, layer_decay, drop_path, half = row
    recipe = found(f"coco/{name}{end}")
    assert (recipe.model.backbone.name, recipe.init) == (backbone, init)
    assert (recipe.optim.lr, recipe.optim.layer_decay) == (lr, layer_decay)
    assert recipe.model.backbone.drop_path_rate == drop_path
    assert recipe.loop.precision == ("auto" if half else "float32")


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_is_common(name: str) -> None:
    recipe = found(name)
    assert (recipe.optim.name, recipe.optim.weight_decay, recipe.optim.betas) == ("adamw", 0.05, (0.9, 0.999))
    assert (recipe.optim.clip_grad, recipe.optim.blocks_per_group, recipe.optim.eps) == (0.0, 3, 1e-8)
    assert (recipe.loop.global_batch, recipe.loop.micro_batch) == (16, 2)
    assert (recipe.schedule.shape, recipe.schedule.warmup_steps, recipe.schedule.warmup_start) == ("steps", 500, 0.001)
    assert recipe.ema.decay == 0
    assert recipe.model.backbone.layer_scale_init_value == 1.0
    assert (recipe.input.short, recipe.input.long, recipe.input.divisor) == (800, 1333, 32)
    assert [round(255 * value, 2) for value in (*recipe.input.mean, *recipe.input.std)] == [
        *(123.67, 116.28, 103.53, 58.4, 57.12, 57.38)
    ]
    assert recipe.augment.shorts == tuple(range(480, 801, 32))
    assert (recipe.augment.long, recipe.augment.flip, recipe.augment.crop) == (1333, 0.5, 0.5)
    assert (recipe.augment.crop_shorts, recipe.augment.crop_sides) == ((400, 500, 600), (384, 600))
    assert (recipe.augment.drop_empty, recipe.augment.min_side) == (True, 32)
    check_recipe(recipe)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_schedule_of_36_epochs_and_the_short_one(name: str) -> None:
    recipe = found(name)
    epochs, drops = (12.0, (8.0, 11.0)) if name.endswith("_1x") else (36.0, (27.0, 33.0))
    assert (recipe.schedule.epochs, recipe.schedule.drops) == (epochs, drops)
    plan = make_plan(num_images=TRAIN2017, loop=recipe.loop, schedule=recipe.schedule, world_size=8)
    assert (plan.micro_batch, plan.accumulation, plan.steps_per_epoch) == (2, 1, 7329)
    assert (plan.warmup_steps, plan.total_steps) == (500, int(epochs) * 7329)
    assert plan.drop_steps == tuple(int(drop) * 7329 for drop in drops)


def rpn(*, inside_only: bool, smooth: float, in_training: int) -> RPNConfig:
    return RPNConfig(
        anchor_scale=8.0,
        ratios=(0.5, 1.0, 2.0),
        inside_only=inside_only,
        smooth=smooth,
        positive_iou=0.7,
        negative_iou=0.3,
        samples=256,
        before_nms=(2000, 1000),
        after_nms=(in_training, 1000),
        nms_iou=0.7,
    )


def roi(*, giou: bool, **differing: Any) -> RoIConfig:
    return RoIConfig(
        **differing,
        width=1024,
        class_agnostic=False,
        giou=giou,
        samples=512,
        positive_share=0.25,
        score=0.05,
        nms_iou=0.5,
        most=100,
        mask_threshold=0.5,
        mask_convs=4,
    )


def test_the_heads_of_mask_rcnn() -> None:
    model = found("coco/mask_rcnn_convnext_tiny").model
    assert (model.width, model.masks, model.num_classes) == (256, True, 0)
    assert model.rpn == rpn(inside_only=False, smooth=0.0, in_training=1000)
    stage = {"ious": (0.5,), "stds": ((0.1, 0.1, 0.2, 0.2),), "weights": (1.0,), "best_too": True}
    assert model.roi == roi(**stage, convs=0, fcs=2, giou=False)


@pytest.mark.parametrize("name", [name for name in PUBLISHED if "cascade" in name])
def test_the_heads_of_a_cascade(name: str) -> None:
    model = found(name).model
    assert (model.width, model.masks, model.num_classes) == (256, True, 0)
    assert model.rpn == rpn(inside_only=True, smooth=1 / 9, in_training=2000)
    stages = {
        "ious": (0.5, 0.6, 0.7),
        "stds": ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067)),
        "weights": (1.0, 0.5, 0.25),
        "best_too": False,
    }
    assert model.roi == roi(**stages, convs=4, fcs=1, giou=True)


def test_all_seven_are_there_in_two_lengths() -> None:
    assert sorted(PUBLISHED) == sorted(f"coco/{row[0]}{end}" for row in TABLE for end in ("", "_1x"))
    assert set(PUBLISHED) == {name for name in all_recipes() if name.startswith("coco/")}


def test_the_small_one_stands_alone() -> None:
    recipe = small_mask_rcnn()
    check_recipe(recipe)
    assert (recipe.init, recipe.augment.drop_empty) == ("", False)
    assert recipe.optim.clip_grad > 0
    assert recipe.model.backbone.layer_scale_init_value == 0.0  # random weights need their blocks from the first step


@pytest.mark.parametrize("accelerator", [False, True])
def test_fine_tuning_keeps_the_detector_and_fits_the_number_of_pictures(accelerator: bool) -> None:
    model = replace(mask_rcnn(ModelConfig("convnext_tiny"), num_classes=80), width=128)
    recipes = [fine_tuned("w.pth", model, images=n, accelerator=accelerator) for n in (10, 500, 5_000, 100_000)]
    for recipe in recipes:
        check_recipe(recipe)
        assert recipe.model == replace(
            model, num_classes=0, backbone=replace(model.backbone, drop_path_rate=0.1)
        )  # classes are the data's
        assert recipe.init == "w.pth"
        assert recipe.optim.layer_decay < 1
        assert 0 < recipe.schedule.warmup_epochs <= recipe.schedule.epochs / 10
        assert recipe.loop.eval_epochs <= recipe.schedule.epochs
    epochs = [recipe.schedule.epochs for recipe in recipes]
    assert epochs == sorted(epochs, reverse=True)
    assert (epochs[0], epochs[-1]) == (60, 2)
    assert recipes[0].input.short == (800 if accelerator else 480)
