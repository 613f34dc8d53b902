"""One batch for classification: reading, augmenting and stacking its images, in a worker process or in this one.

Shapes: B batch, S the model's size. Batches are uint8, on the CPU; `mix.prepare` goes on from here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from convnext.core.seeding import mix_seed
from convnext.data.batch import Loaded, Work, filled
from convnext.data.classification.augment import train_transform
from convnext.data.classification.config import AugmentConfig
from convnext.data.classification.dataset import ClassificationDataset
from convnext.data.config import InputConfig
from convnext.data.decode import BadImage
from convnext.data.preprocess import eval_transform


class ClassificationBatch(NamedTuple):
    """Images as the model takes them, before normalisation."""

    images: Tensor
    """uint8 (B, C, S, S)."""
    targets: Tensor
    """int64 (B,); of several labels uint8 (B, K)."""
    indices: Tensor
    """int64 (B,): which images of the dataset these are."""


def load_train_batch(
    work: Work, *, dataset: ClassificationDataset, augment: AugmentConfig, input: InputConfig, seed: int
) -> Loaded[ClassificationBatch]:
    """Augmented images; image i of epoch e with seed mix_seed(seed, e, i). Numbers of N and more, which an order with
    equal classes has, mean image i % N.

    Images that can be read take the places of those that cannot, so that the batch keeps its shape. Where none can, the
    next one of the dataset that can be read fills it; where there is none nearby, the batch is empty.
    """
    failures: list[tuple[str, str]] = []

    def view(index: int) -> Tensor | None:
        image = _read(dataset, index % len(dataset), failures)
        return None if image is None else train_transform(image, augment, input, mix_seed(seed, work.epoch, index))

    used, views = filled(work.indices.tolist(), len(dataset), view)
    return Loaded(_stacked(views, [index % len(dataset) for index in used], dataset, input), len(used), failures)


def load_eval_batch(
    work: Work,
    *,
    dataset: ClassificationDataset,
    input: InputConfig,
    change: Callable[[Tensor, int], Tensor] | None = None,
) -> Loaded[ClassificationBatch]:
    """Images as evaluation sees them; those that cannot be read are left out. change: what is done to each after that,
    by its index; picklable."""
    failures: list[tuple[str, str]] = []
    views = {
        index: eval_transform(image, input)
        for index in work.indices.tolist()
        if (image := _read(dataset, index, failures)) is not None
    }
    if change is not None:
        views = {index: change(view, index) for index, view in views.items()}
    return Loaded(_stacked(list(views.values()), list(views), dataset, input), len(views), failures)


def _read(dataset: ClassificationDataset, index: int, failures: list[tuple[str, str]]) -> Tensor | None:
    try:
        return dataset.read(index)
    except BadImage as error:
        failures.append((error.name, error.reason))
        return None


def _stacked(
    views: list[Tensor], indices: list[int], dataset: ClassificationDataset, input: InputConfig
) -> ClassificationBatch:
    chosen = torch.tensor(indices, dtype=torch.int64)
    empty = torch.zeros((0, len(input.mean), input.size, input.size), dtype=torch.uint8)
    images = torch.stack(views) if views else empty
    return ClassificationBatch(images, dataset.targets[chosen], chosen)
