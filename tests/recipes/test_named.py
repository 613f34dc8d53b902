"""A model that is named stands whole: what a recipe had set for another one is dropped, and said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from convnext.models.config import ModelConfig
from convnext.models.create import MODEL_NAMES, from_config
from convnext.models.detection.build import build_detector
from convnext.models.segmentation.config import upernet
from convnext.recipes.limits import setting
from convnext.recipes.named import named_parts, with_whole_models
from convnext.tasks.recipes import all_recipes, find_recipe


@pytest.mark.parametrize("name", [name for name in all_recipes() if not name.startswith("roadmap/")])
@pytest.mark.parametrize("model", ["convnextv2_pico", "swin_tiny"])
def test_every_recipe_gives_the_whole_model(name: str, model: str) -> None:
    recipe = find_recipe(name)
    ((place, before),) = [(place, part) for place, part in named_parts(recipe) if isinstance(part, ModelConfig)]
    changed, _ = with_whole_models(recipe, {f"{place}.name": model}, of_weights=False)
    after = setting(changed, place)
    kept = ("num_classes", "in_chans", "drop_path_rate", "head_init_scale")
    assert after == replace(ModelConfig(model), **{key: getattr(before, key) for key in kept})
    for other in ("data", "init", "optim", "schedule", "loop", "input", "augment"):
        assert getattr(changed, other) == getattr(recipe, other)


def test_what_is_dropped_is_said_in_a_line() -> None:
    _, (change,) = with_whole_models(find_recipe("demo"), {"model.name": "convnext_tiny"}, of_weights=False)
    assert str(change) == (
        "--model.name convnext_tiny gives it as it is: what the recipe had set for convnext_atto is dropped "
        "(layer-scale-init-value 0, init-std 0.08, stem-stride 1, output-stride 8, depths 1 1 2 1, dims 32 64 96 128)"
    )
    given = {"model.name": "evil\x1b[2J", "model.depths": "2", "model.stem_stride": "2"}
    _, (change,) = with_whole_models(find_recipe("demo"), given, of_weights=False)
    assert "\x1b" not in str(change)
    assert not {"depths", "stem-stride"} & {words.split()[0] for words in change.dropped}  # those that are given count


def test_the_same_name_is_that_model_too_unless_weights_say_so() -> None:
    """convnext_atto has 3.7 million parameters, not those of the demo."""
    given = {"model.name": "convnext_atto"}
    changed, (change,) = with_whole_models(find_recipe("demo"), given, of_weights=False)
    assert setting(changed, "model.depths") is None
    assert "set in its place" in str(change)
    assert with_whole_models(find_recipe("demo"), given, of_weights=True) == (find_recipe("demo"), [])
    assert with_whole_models(find_recipe("demo"), {}, of_weights=False) == (find_recipe("demo"), [])


def test_a_dense_backbone_begins_its_layer_scale_as_those_do() -> None:
    recipe = find_recipe("coco/mask_rcnn_convnext_tiny")
    for model, scale in (("convnext_small", 1.0), ("convnextv2_tiny", None), ("swin_tiny", None)):
        changed, _ = with_whole_models(recipe, {"model.backbone.name": model}, of_weights=False)
        assert setting(changed, "model.backbone.layer_scale_init_value") == scale
    detector = setting(changed, "model")
    build_detector(replace(detector, num_classes=2))  # not refused for settings that nobody gave


def test_a_head_that_is_named_is_that_head() -> None:
    recipe = find_recipe("small/segmenter")
    given = {"model.head": "upernet", "model.backbone.name": "convnext_pico"}
    changed, changes = with_whole_models(recipe, given, of_weights=False)
    usual = upernet(replace(ModelConfig("convnext_pico"), drop_path_rate=0.05))
    assert setting(changed, "model") == usual
    assert [change.option for change in changes] == ["model.head", "model.backbone.name"]
    assert changes[0].dropped == ("width 128", "auxiliary-width 0")


def test_names_that_there_are_not_are_left_to_others() -> None:
    changed, _ = with_whole_models(find_recipe("small/segmenter"), {"model.head": "none"}, of_weights=False)
    assert setting(changed, "model.head") == "none"
    assert "convnext_tinny" not in MODEL_NAMES
    changed, _ = with_whole_models(find_recipe("demo"), {"model.name": "convnext_tinny"}, of_weights=False)
    assert setting(changed, "model.name") == "convnext_tinny"


@pytest.mark.parametrize("model", ["convnext_isotropic_small", "resnet50", "swin_tiny", "convnextv2_atto"])
def test_any_family_can_be_built_in_place_of_the_demo(model: str) -> None:
    changed, _ = with_whole_models(find_recipe("demo"), {"model.name": model}, of_weights=False)
    assert from_config(replace(setting(changed, "model"), num_classes=2))
