"""An autoencoder's preprocessing as a function of one image. S the model's size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from convnext.core.seeding import mix_seed
from convnext.data.classification.augment import train_transform
from convnext.data.inputs import read_image
from convnext.data.mix import prepare
from convnext.data.preprocess import eval_transform
from convnext.tasks.pretraining.recipe import PretrainingMetadata, PretrainingRecipe


def transform_for(metadata: PretrainingMetadata, recipe: PretrainingRecipe | None = None) -> Callable[[Any], Tensor]:
    """A function: an image (as predictors take it) to what the model takes, float32 (3, S, S), normalised. Masks are
    not made here (`data.pretraining.batch.mask_of`).

    With a recipe: augmented as in training, drawn from torch's global generator.
    """
    input = metadata.input

    def transform(image: Any) -> Tensor:
        pixels = read_image(image)
        if recipe is None:
            seen = eval_transform(pixels, input)
        else:
            seen = train_transform(pixels, recipe.augment, input, mix_seed(int(torch.randint(1 << 62, ())), 0))
        return prepare(seen[None], input)[0]

    return transform
