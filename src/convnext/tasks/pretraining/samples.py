"""Images to pre-train on: how many there are, and some of them drawn, as they are and as the encoder sees them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL.Image import Image

from convnext.data.batch import Work
from convnext.data.classification.batch import load_train_batch
from convnext.data.classification.dataset import ClassificationDataset, images_of_each
from convnext.data.pretraining.batch import Masking, mask_of
from convnext.models.fcmae import FCMAE
from convnext.report.drawing import thumbnail
from convnext.tasks.pretraining.draw import masked
from convnext.tasks.pretraining.recipe import PretrainingRecipe

_SIDE = 320  # pixels of a drawing's longer side


def class_counts(dataset: ClassificationDataset) -> tuple[str, list[int]]:
    """("images", how many of each class there are; they are not used)."""
    return "images", images_of_each(dataset).tolist()


def draw_samples(dataset: ClassificationDataset, indices: Sequence[int]) -> list[Image]:
    """Some images. Raises BadImage."""
    return [thumbnail(dataset.read(i), _SIDE) for i in indices]


def draw_augmented(recipe: PretrainingRecipe, dataset: ClassificationDataset, indices: Sequence[int]) -> list[Image]:
    """The same as the encoder sees them in the first epoch: augmented, with masked cells grey."""
    with torch.device("meta"):
        cell = FCMAE(recipe.model).cell
    work, seed = Work(0, torch.as_tensor(list(indices))), recipe.loop.seed
    batch = load_train_batch(work, dataset=dataset, augment=recipe.augment, input=recipe.input, seed=seed).batch
    masking = Masking(cell, recipe.model.mask_ratio, seed)
    masks = (mask_of(i, epoch=0, size=recipe.input.size, masking=masking) for i in batch.indices.tolist())
    return [thumbnail(masked(image, mask), _SIDE) for image, mask in zip(batch.images, masks, strict=True)]
