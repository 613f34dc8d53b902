"""Images with their objects: how many of each class, and some of them drawn, as they are and as training sees them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL.Image import Image

from convnext.data.batch import Work
from convnext.data.detection.dataset import DetectionDataset
from convnext.data.detection.transforms import load_train_batch
from convnext.tasks.detection.draw import drawn
from convnext.tasks.detection.recipe import DetectionRecipe

_SIDE = 640  # pixels of a drawing's longer side


def class_counts(dataset: DetectionDataset) -> tuple[str, list[int]]:
    """("objects", how many there are of each class, without crowds)."""
    place = {category: k for k, category in enumerate(dataset.category_ids)}
    counts = [0] * len(place)
    for annotation in dataset.truth()["annotations"]:
        if not annotation.get("iscrowd"):
            counts[place[annotation["category_id"]]] += 1
    return "objects", counts


def draw_samples(dataset: DetectionDataset, indices: Sequence[int]) -> list[Image]:
    """Some images with their objects. Raises BadImage."""
    return [drawn(dataset.read(i), dataset.instances(i), dataset.classes, longest=_SIDE) for i in indices]


def draw_augmented(recipe: DetectionRecipe, dataset: DetectionDataset, indices: Sequence[int]) -> list[Image]:
    """The same as the first epoch of training sees them: resized, mirrored, cut."""
    work = Work(0, torch.as_tensor(list(indices)))
    seed, augment = recipe.loop.seed, recipe.augment
    batch = load_train_batch(work, dataset=dataset, augment=augment, config=recipe.input, seed=seed).batch
    return [
        drawn(image[:, :height, :width], instances, dataset.classes, longest=_SIDE)
        for image, (height, width), instances in zip(batch.images, batch.sizes.tolist(), batch.instances, strict=True)
    ]
