"""Images with label maps: pixels of each class, and some images drawn, as they are and as training sees them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL.Image import Image

from convnext.data.batch import Work
from convnext.data.decode import BadImage
from convnext.data.segmentation.dataset import SegmentationDataset
from convnext.data.segmentation.transforms import load_train_batch
from convnext.tasks.segmentation.draw import overlaid
from convnext.tasks.segmentation.recipe import SegmentationRecipe

_SIDE = 640  # pixels of a drawing's longer side


def class_counts(dataset: SegmentationDataset) -> tuple[str, list[int]]:
    """("pixels", how many there are of each class)."""
    classes = len(dataset.classes)
    if dataset.pixels is not None and getattr(dataset, "whole", True):
        return "pixels", [int(count) for count in dataset.pixels]
    counts = np.zeros(256, np.int64)
    for index in range(len(dataset)):
        try:
            counts += np.bincount(dataset.labels(index).numpy().ravel(), minlength=256)
        except BadImage:
            continue  # named where images are looked at
    return "pixels", counts[:classes].tolist()


def draw_samples(dataset: SegmentationDataset, indices: Sequence[int]) -> list[Image]:
    """Some images with their classes laid over them. Raises BadImage."""
    classes, colours = dataset.classes, dataset.colours
    return [overlaid(dataset.read(i), dataset.labels(i), classes, colours, longest=_SIDE) for i in indices]


def draw_augmented(recipe: SegmentationRecipe, dataset: SegmentationDataset, indices: Sequence[int]) -> list[Image]:
    """The same as the first epoch of training sees them: resized, mirrored, cut, in other light."""
    work = Work(0, torch.as_tensor(list(indices)))
    seed, augment = recipe.loop.seed, recipe.augment
    batch = load_train_batch(work, dataset=dataset, augment=augment, config=recipe.input, seed=seed).batch
    return [
        overlaid(image[:, :height, :width], labels[:height, :width], dataset.classes, dataset.colours, longest=_SIDE)
        for image, labels, (height, width) in zip(batch.images, batch.targets, batch.sizes.tolist(), strict=True)
    ]
