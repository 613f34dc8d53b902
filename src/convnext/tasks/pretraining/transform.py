"""An autoencoder's preprocessing as a function of one image. S the model's size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from convnext.tasks.classification.recipe import ClassificationRecipe
from convnext.tasks.classification.transform import transform_for as transform_of_classifier
from convnext.tasks.pretraining.recipe import PretrainingMetadata, PretrainingRecipe


def transform_for(metadata: PretrainingMetadata, recipe: PretrainingRecipe | None = None) -> Callable[[Any], Tensor]:
    """A function: an image (as predictors take it) to what the model takes, float32 (3, S, S), normalised; with a
    recipe augmented as in its training. Masks are not made here (`data.pretraining.batch.mask_of`)."""
    augmented = recipe and ClassificationRecipe(name=recipe.name, augment=recipe.augment)
    return transform_of_classifier(metadata.input, augmented)
