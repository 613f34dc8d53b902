"""The segmenters' recipes: every number of the official configurations (semantic_segmentation/configs/convnext)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from convnext.core.errors import UserError
from convnext.models.segmentation.config import SegmenterConfig
from convnext.tasks.recipes import all_recipes, check_recipe, find_recipe
from convnext.tasks.segmentation.recipe import SegmentationRecipe
from convnext.tasks.segmentation.recipes import PUBLISHED, fine_tuned, head_for
from convnext.training.loop import make_plan
from convnext.training.optim import learning_rate

ADE20K = 20_210  # training pictures

# (name, backbone, weights to start from, crop, stride, learning rate, drop path, half precision)
TABLE = [
    ("tiny", "convnext_tiny", "convnext_tiny.fb_in1k_no_ema", 512, 341, 1e-4, 0.4, True),
    ("small", "convnext_small", "convnext_small.fb_in1k_no_ema", 512, 341, 1e-4, 0.3, True),
    ("base", "convnext_base", "convnext_base.fb_in1k_no_ema", 512, 341, 1e-4, 0.4, True),
    ("base_22k", "convnext_base", "convnext_base.fb_in22k", 640, 426, 1e-4, 0.4, True),
    ("large_22k", "convnext_large", "convnext_large.fb_in22k", 640, 426, 1e-4, 0.4, False),
    ("xlarge_22k", "convnext_xlarge", "convnext_xlarge.fb_in22k", 640, 426, 8e-5, 0.4, False),
]


def found(name: str) -> SegmentationRecipe:
    recipe = find_recipe(name)
    assert isinstance(recipe, SegmentationRecipe)
    return recipe


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_what_differs_between_the_models(row: tuple) -> None:
    name, backbone, init, crop, stride, lr, drop_path, half = row
    recipe = found(f"ade20k/upernet_convnext_{name}")
    assert (recipe.model.backbone.name, recipe.init) == (backbone, init)
    assert (recipe.augment.crop, recipe.input.window, recipe.input.stride) == (crop, crop, stride)
    assert (recipe.input.short, recipe.input.long) == (crop, 4 * crop)
    assert (recipe.optim.lr, recipe.model.backbone.drop_path_rate) == (lr, drop_path)
    assert recipe.loop.precision == ("auto" if half else "float32")


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_is_common(name: str) -> None:
    recipe = found(name)
    assert (recipe.optim.name, recipe.optim.weight_decay, recipe.optim.betas) == ("adamw", 0.05, (0.9, 0.999))
    assert (recipe.optim.layer_decay, recipe.optim.blocks_per_group, recipe.optim.clip_grad) == (0.9, 0, 0.0)
    assert (recipe.loop.global_batch, recipe.loop.micro_batch, recipe.ema.decay, recipe.balance) == (16, 2, 0, 0)
    assert recipe.model.backbone.layer_scale_init_value == 1.0
    head = (recipe.model.head, recipe.model.width, recipe.model.auxiliary_width, recipe.model.dropout)
    assert head == ("upernet", 512, 256, 0.1)
    augment = recipe.augment
    assert (augment.scale, augment.most, augment.flip, augment.distort) == ((0.5, 2.0), 0.75, 0.5, True)
    check_recipe(recipe)


def test_the_schedule_of_160k_steps() -> None:
    recipe = found(PUBLISHED[0])
    plan = make_plan(num_images=ADE20K, loop=recipe.loop, schedule=recipe.schedule, world_size=8)
    assert (plan.total_steps, plan.warmup_steps, plan.micro_batch, plan.accumulation) == (160_000, 1500, 2, 1)
    assert round(recipe.loop.eval_epochs * plan.steps_per_epoch) == 16_000
    shape = recipe.schedule

    def lr(step: int) -> float:
        return learning_rate(
            step,
            lr=1e-4,
            min_lr=shape.min_lr,
            warmup_steps=plan.warmup_steps,
            total_steps=plan.total_steps,
            warmup_start=shape.warmup_start,
            shape=shape.shape,
        )

    # mmcv's "poly" of power 1, times its linear warm-up from 1e-6: computed by hand
    assert lr(0) == pytest.approx(1e-10)
    assert lr(750) == pytest.approx(1e-4 * (1 - 750 / 160_000) * (0.5 + 0.5e-6))
    assert lr(1500) == pytest.approx(1e-4 * (1 - 1500 / 160_000))
    assert lr(80_000) == pytest.approx(5e-5)
    assert lr(159_999) == pytest.approx(1e-4 / 160_000)


def test_other_heads_and_the_small_one() -> None:
    assert found("ade20k/mlp_convnext_tiny").model.head == "mlp"
    linear = found("ade20k/linear_convnext_tiny")
    assert (linear.model.head, linear.model.frozen, linear.schedule.steps) == ("linear", True, 40_000)
    for name in ("ade20k/mlp_convnext_tiny", "ade20k/linear_convnext_tiny", "small/segmenter"):
        check_recipe(found(name))
        assert name in all_recipes()


@pytest.mark.parametrize("accelerator", [True, False])
@pytest.mark.parametrize("images", [5, 300, 20_000])
def test_fine_tuning_fits_its_data(accelerator: bool, images: int) -> None:
    model = replace(SegmenterConfig(), num_classes=150)
    recipe = fine_tuned("x", model, images=images, accelerator=accelerator)
    check_recipe(recipe)
    assert recipe.model.num_classes == 0
    assert 100 <= recipe.schedule.steps <= 40_000
    assert recipe.schedule.warmup_steps <= recipe.schedule.steps // 10
    assert head_for(model.backbone, accelerator=accelerator).head == ("upernet" if accelerator else "mlp")


def test_windows_that_leave_pixels_out_are_refused() -> None:
    recipe = found(PUBLISHED[0])
    with pytest.raises(UserError, match="at most --input"):
        check_recipe(replace(recipe, input=replace(recipe.input, stride=600)))
    check_recipe(replace(recipe, input=replace(recipe.input, window=0, stride=600)))
