"""Recipes: the published numbers, JSON there and back, choices that suit the data, warnings where they do not."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from convnext.core.errors import UserError
from convnext.core.typed import from_dict, to_dict
from convnext.models.config import ModelConfig
from convnext.models.create import MODEL_NAMES
from convnext.tasks.classification.choose import Facts, choose, warnings
from convnext.tasks.classification.recipe import ClassificationRecipe
from convnext.tasks.detection.recipe import DetectionRecipe
from convnext.tasks.detection.setup import warnings as detection_warnings
from convnext.tasks.recipes import all_recipes, describe_recipe, find_recipe, read_recipe, save_recipe
from convnext.tasks.segmentation.recipe import SegmentationRecipe
from convnext.tasks.segmentation.setup import warnings as segmentation_warnings
from convnext.training.config import EmaConfig, LoopConfig, ScheduleConfig
from convnext.training.loop import make_plan


@pytest.mark.parametrize("name", all_recipes())
class TestEveryRecipe:
    """The contract of a recipe."""

    def test_it_is_called_by_its_name_and_has_a_known_model(self, name: str) -> None:
        recipe = find_recipe(name)
        assert recipe.name == name
        backbone = recipe.model if isinstance(recipe, ClassificationRecipe) else recipe.model.backbone
        assert backbone.name in MODEL_NAMES

    def test_it_can_be_written_down_and_read_again(self, name: str, tmp_path: Path) -> None:
        recipe = find_recipe(name)
        save_recipe(tmp_path / "recipe.json", recipe)
        assert read_recipe(tmp_path / "recipe.json") == recipe

    def test_its_docstring_says_command_and_what_to_expect(self, name: str) -> None:
        text = describe_recipe(name)
        assert "convnext train" in text
        assert "Expect" in text or name.startswith("imagenet22k/")  # the paper gives no 22K accuracy

    def test_its_warmup_and_average_suit_its_length_on_imagenet(self, name: str) -> None:
        recipe = find_recipe(name)
        images = {"demo": 1618, "cifar10": 45_000}.get(name, 1_281_167)
        plan = make_plan(num_images=images, loop=recipe.loop, schedule=recipe.schedule, world_size=1)
        recipe = dataclasses.replace(recipe, init="given")
        if isinstance(recipe, DetectionRecipe):
            assert detection_warnings(recipe, images, plan) == []
            return
        if isinstance(recipe, SegmentationRecipe):
            assert segmentation_warnings(recipe, images, plan) == []
            return
        found = warnings(
            recipe,
            images=images,
            classes=10,
            side=32,
            warmup_steps=plan.warmup_steps,
            total_steps=plan.total_steps,
        )
        assert found == []


def test_table_5() -> None:
    """ImageNet-1K training, every number of the paper's left column."""
    rates = {"tiny": 0.1, "small": 0.4, "base": 0.5, "large": 0.5}
    for size, rate in rates.items():
        recipe = find_recipe(f"imagenet/convnext_{size}")
        assert recipe.model.drop_path_rate == rate
        assert (recipe.optim.lr, recipe.optim.weight_decay, recipe.optim.betas) == (4e-3, 0.05, (0.9, 0.999))
        assert (recipe.optim.layer_decay, recipe.optim.clip_grad, recipe.optim.eps) == (1.0, 0.0, 1e-8)
        assert (recipe.loop.global_batch, recipe.schedule.epochs, recipe.schedule.warmup_epochs) == (4096, 300, 20)
        assert (recipe.mix.mixup, recipe.mix.cutmix, recipe.mix.erase, recipe.mix.smoothing) == (0.8, 1.0, 0.25, 0.1)
        assert (recipe.mix.prob, recipe.mix.switch_prob, recipe.schedule.min_lr) == (1.0, 0.5, 1e-6)
        assert (recipe.augment.randaugment_magnitude, recipe.augment.randaugment_std) == (9, 0.5)
        assert (recipe.augment.scale, recipe.augment.ratio) == ((0.08, 1.0), (3 / 4, 4 / 3))
        assert (recipe.ema.decay, recipe.ema.warmup) == (0.9999, False)
        assert (recipe.input.size, recipe.input.crop_ratio, recipe.input.interpolation) == (224, 0.875, "bicubic")


def test_table_5_imagenet_22k() -> None:
    for size, rate in {"tiny": 0.0, "small": 0.0, "base": 0.1, "large": 0.1, "xlarge": 0.2}.items():
        recipe = find_recipe(f"imagenet22k/convnext_{size}")
        assert recipe.model.drop_path_rate == rate
        assert (recipe.schedule.epochs, recipe.schedule.warmup_epochs, recipe.ema.decay) == (90, 5, 0)


def test_table_6() -> None:
    """Fine-tuning, every number."""
    for size, rate in {"tiny": 0.0, "small": 0.1, "base": 0.2, "large": 0.3, "xlarge": 0.4}.items():
        for pixels in (224, 384):
            recipe = find_recipe(f"imagenet22k-1k/convnext_{size}_{pixels}")
            assert (recipe.model.drop_path_rate, recipe.input.size) == (rate, pixels)
            assert (recipe.optim.lr, recipe.optim.weight_decay, recipe.optim.layer_decay) == (5e-5, 1e-8, 0.8)
            assert (recipe.loop.global_batch, recipe.schedule.epochs, recipe.schedule.warmup_epochs) == (512, 30, 0)
            assert (recipe.mix.mixup, recipe.mix.cutmix, recipe.mix.erase, recipe.mix.smoothing) == (0, 0, 0.25, 0.1)
            assert (recipe.model.head_init_scale, recipe.ema.decay) == (0.001, 0.9999 if size == "xlarge" else 0)
    for size, rate in {"base": 0.8, "large": 0.95}.items():
        recipe = find_recipe(f"imagenet384/convnext_{size}")
        assert (recipe.model.drop_path_rate, recipe.optim.layer_decay, recipe.input.size) == (rate, 0.7, 384)


def test_isotropic_recipes() -> None:
    for size, rate in {"small": 0.1, "base": 0.2, "large": 0.5}.items():
        recipe = find_recipe(f"imagenet/convnext_isotropic_{size}")
        assert (recipe.model.drop_path_rate, recipe.schedule.warmup_epochs) == (rate, 50)


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'imagenet/convnext_tinny'.*'imagenet/convnext_tiny'"):
        find_recipe("imagenet/convnext_tinny")


def test_a_recipe_file_with_an_unknown_field_names_the_nearest(tmp_path: Path) -> None:
    values = to_dict(find_recipe("demo"))
    values["optim"]["weight_decoy"] = 0.1
    (tmp_path / "r.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"optim\.weight_decoy.*'weight_decay'"):
        read_recipe(tmp_path / "r.json")
    (tmp_path / "r.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        read_recipe(tmp_path / "r.json")


@pytest.mark.parametrize("images", [20, 350, 2_000, 10_000, 100_000, 1_281_167])
@pytest.mark.parametrize("accelerator", [False, True])
@pytest.mark.parametrize(("side", "init"), [(32, ""), (300, ""), (300, "convnext_tiny")])
def test_a_chosen_recipe_never_warns_of_its_own_schedule(images: int, accelerator: bool, side: int, init: str) -> None:
    facts = Facts(
        images=images, classes=10, side=side, accelerator=accelerator, init=ModelConfig(init) if init else None
    )
    recipe, reasons = choose(facts)
    plan = make_plan(num_images=images, loop=recipe.loop, schedule=recipe.schedule, world_size=1)
    found = warnings(
        dataclasses.replace(recipe, init=init),
        images=images,
        classes=1,
        side=side,
        warmup_steps=plan.warmup_steps,
        total_steps=plan.total_steps,
    )
    assert [text for text in found if "from scratch" not in text] == []
    assert plan.total_steps >= min(60, images)  # enough steps to learn anything
    assert recipe.model.name in MODEL_NAMES
    assert any(str(images) in reason for reason in reasons)
    assert from_dict(ClassificationRecipe, to_dict(recipe)) == recipe


def test_more_images_mean_fewer_epochs_and_larger_batches() -> None:
    chosen = [choose(Facts(n, 10, 300, True))[0] for n in (500, 5_000, 50_000, 500_000)]
    epochs = [recipe.schedule.epochs for recipe in chosen]
    batches = [recipe.loop.global_batch for recipe in chosen]
    assert epochs == sorted(epochs, reverse=True)
    assert batches == sorted(batches)
    assert len(set(epochs)) > 1
    assert len(set(batches)) > 1


def test_weights_to_start_from_decide_model_and_rule() -> None:
    recipe, _ = choose(Facts(2_000, 5, 300, True, init=ModelConfig("convnextv2_base")))
    assert recipe.model.name == "convnextv2_base"
    assert recipe.optim.layer_decay < 1
    assert recipe.model.layer_scale_init_value is None  # the file's own layer scale
    assert (recipe.mix.mixup, recipe.mix.cutmix) == (0, 0)


def warn(recipe: ClassificationRecipe, *, images: int, total: int, warmup: int = 0, side: int = 300) -> str:
    found = warnings(recipe, images=images, classes=10, side=side, warmup_steps=warmup, total_steps=total)
    return "\n".join(found)


def test_it_warns_of_an_average_longer_than_the_run() -> None:
    recipe = ClassificationRecipe(name="r", init="given", ema=EmaConfig(decay=0.9999))
    text = warn(recipe, images=1_000_000, total=9_999)
    assert "10000 steps, but the run has 9999" in text
    suggested = float(text.split("--ema.decay ")[1].split()[0])
    assert warn(dataclasses.replace(recipe, ema=EmaConfig(decay=suggested)), images=1_000_000, total=9_999) == ""
    assert warn(recipe, images=1_000_000, total=10_001) == ""


def test_it_warns_of_a_warmup_over_a_fifth() -> None:
    recipe = ClassificationRecipe(name="r", init="given", schedule=ScheduleConfig(epochs=50, warmup_epochs=20))
    assert "--schedule.warmup-epochs 2.5" in warn(recipe, images=1_000_000, total=100, warmup=21)
    assert warn(recipe, images=1_000_000, total=100, warmup=20) == ""


def test_it_warns_of_too_few_images_to_start_from_scratch() -> None:
    scratch = ClassificationRecipe(name="r", loop=LoopConfig(global_batch=32))
    assert "Training from scratch with 300 images a class" in warn(scratch, images=3_000, total=10_000)
    assert warn(scratch, images=10_000, total=10_000) == ""
    assert warn(dataclasses.replace(scratch, init="given"), images=3_000, total=10_000) == ""
    assert warn(scratch, images=1_618, total=10_000, side=8) == ""  # small images take fewer
