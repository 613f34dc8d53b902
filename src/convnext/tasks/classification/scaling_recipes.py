"""The recipes of a study of scaling: one for each regime, whatever the model, so that only models differ."""

from __future__ import annotations

from dataclasses import replace

from convnext.models.config import ModelConfig
from convnext.tasks.classification.recipe import ClassificationRecipe
from convnext.tasks.classification.roadmap_recipes import roadmap_step

_DROP_PATH = 0.1  # of every model for ImageNet: Table 5 has it of the smallest


def scaling_recipe(regime: str, name: str, model: ModelConfig) -> ClassificationRecipe:
    """small: the roadmap's recipe for images of 32 pixels (AdamW, no mixing of images, no average). imagenet: the
    paper's (Table 5), without an average and with the same drop path for every model. The length is a study's own."""
    if regime == "small":
        return replace(roadmap_step("small", "sep_ds"), name=name, model=model)
    return ClassificationRecipe(name=name, model=replace(model, drop_path_rate=_DROP_PATH))
