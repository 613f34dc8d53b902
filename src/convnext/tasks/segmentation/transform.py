"""A segmenter's preprocessing as a function of one image. H W space."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from convnext.core.errors import UserError
from convnext.data.config import InputConfig
from convnext.data.inputs import read_image
from convnext.data.mix import prepare
from convnext.data.resize import resized_image
from convnext.data.segmentation.transforms import fitted_size
from convnext.tasks.segmentation.recipe import SegmentationMetadata, SegmentationRecipe


def transform_for(metadata: SegmentationMetadata, recipe: SegmentationRecipe | None = None) -> Callable[[Any], Tensor]:
    """A function: an image (as predictors take it) to what the segmenter takes in evaluation as a whole, float32
    (3, H, W), normalised. Training changes images together with their labels, so there is none for a recipe: raises
    UserError."""
    if recipe is not None:
        raise UserError(
            "Training changes an image together with its labels: use "
            "convnext.data.segmentation.transforms.augment_image."
        )
    input = metadata.input

    def transform(image: Any) -> Tensor:
        pixels = read_image(image)
        resized = resized_image(pixels, fitted_size(pixels.shape[1], pixels.shape[2], input))
        return prepare(resized[None], InputConfig(mean=input.mean, std=input.std))[0]

    return transform
