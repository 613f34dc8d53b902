"""A detector's preprocessing as a function of one image. H W space."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from convnext.core.errors import UserError
from convnext.data.detection.transforms import image_batch
from convnext.data.inputs import read_image
from convnext.data.mix import prepare_padded
from convnext.tasks.detection.recipe import DetectionMetadata, DetectionRecipe


def transform_for(metadata: DetectionMetadata, recipe: DetectionRecipe | None = None) -> Callable[[Any], Tensor]:
    """A function: an image (as predictors take it) to what the detector takes in evaluation, float32 (3, H, W),
    normalised and padded. Training changes images together with their objects, so there is none for a recipe: raises
    UserError."""
    if recipe is not None:
        raise UserError(
            "Training changes an image together with its objects: use convnext.data.detection.transforms.augment_image."
        )
    input = metadata.input

    def transform(image: Any) -> Tensor:
        batch = image_batch([read_image(image)], input)
        return prepare_padded(batch.images, batch.sizes, mean=input.mean, std=input.std)[0]

    return transform
