"""Images with their classes: how many of each, and some of them drawn, as they are and as training sees them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL.Image import Image
from torch import Tensor

from convnext.core.seeding import mix_seed
from convnext.data.batch import Work
from convnext.data.classification.batch import load_train_batch
from convnext.data.classification.dataset import ClassificationDataset, images_of_each, labels_of, several_labels
from convnext.data.mix import erase, mix, mix_soft, prepare, smoothed_labels
from convnext.report.drawing import thumbnail
from convnext.report.panels import stacked, title_strip, unit_of
from convnext.tasks.classification.recipe import ClassificationRecipe

_SIDE = 320  # pixels of a drawing's longer side


def class_counts(dataset: ClassificationDataset) -> tuple[str, list[int]]:
    """("images", how many there are of each class)."""
    return "images", images_of_each(dataset).tolist()


def draw_samples(dataset: ClassificationDataset, indices: Sequence[int]) -> list[Image]:
    """Some images below the name of their class. Raises BadImage."""
    return [_named(dataset.read(i), labels_of(dataset, i)) for i in indices]


def draw_augmented(recipe: ClassificationRecipe, dataset: ClassificationDataset, indices: Sequence[int]) -> list[Image]:
    """The same as the first epoch of training sees them: augmented, erased and mixed, below what they are taught as."""
    work, seed = Work(0, torch.as_tensor(list(indices))), recipe.loop.seed
    batch = load_train_batch(work, dataset=dataset, augment=recipe.augment, input=recipe.input, seed=seed).batch
    generator = torch.Generator().manual_seed(mix_seed(seed, 0, 0, 0))
    images = erase(prepare(batch.images, recipe.input), recipe.mix.erase, generator)
    classes = dataset.classes
    if several_labels(dataset):
        soft = smoothed_labels(batch.targets > 0, images_of_each(dataset) / len(dataset), recipe.mix.smoothing)
        images, soft = mix_soft(images, soft, config=recipe.mix, generator=generator)
    else:
        images, soft = mix(images, batch.targets, num_classes=len(classes), config=recipe.mix, generator=generator)
    mean, std = (torch.tensor(values)[:, None, None] for values in (recipe.input.mean, recipe.input.std))
    seen = ((images * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    return [_named(image, _taught(target, classes)) for image, target in zip(seen, soft, strict=True)]


def _taught(target: Tensor, classes: Sequence[str]) -> str:
    """The classes of a soft target that have more than smoothing gives."""
    most = [(float(target[k]), classes[k]) for k in target.argsort(descending=True)[:6].tolist()]
    told = [f"{name} {100 * share:.0f} %" for share, name in most if share > 0.1]
    return ", ".join(told) or f"{most[0][1]} {100 * most[0][0]:.0f} %"


def _named(image: Tensor, name: str) -> Image:
    shown = thumbnail(image, _SIDE)
    return stacked([title_strip(name, shown.width, unit_of(_SIDE)), shown])
