"""One batch: reading, augmenting and stacking its images, in a worker process or in this one.

Shapes: B batch, S the model's size. Batches are uint8, on the CPU; `mix.prepare` goes on from here.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from convnext.core.seeding import mix_seed
from convnext.data.augment import train_transform
from convnext.data.config import AugmentConfig, InputConfig
from convnext.data.decode import BadImage
from convnext.data.preprocess import eval_transform
from convnext.data.source import Source

_SUBSTITUTES = 100  # images that are tried where none of a batch can be read


class Batch(NamedTuple):
    """Images as the model takes them, before normalisation."""

    images: Tensor
    """uint8 (B, 3, S, S)."""
    targets: Tensor
    """int64 (B,)."""
    indices: Tensor
    """int64 (B,): which images of the source these are."""


class Work(NamedTuple):
    """What a worker is asked for: some images (int64) in some epoch."""

    epoch: int
    indices: Tensor


class Loaded(NamedTuple):
    """What comes back: the batch, and (name, reason) of each image that could not be read."""

    batch: Batch
    failures: list[tuple[str, str]]


def load_train(work: Work, *, source: Source, augment: AugmentConfig, input: InputConfig, seed: int) -> Loaded:
    """Augmented images; image i of epoch e with seed mix_seed(seed, e, i).

    Images that can be read take the places of those that cannot, so that the batch keeps its shape. Where none can, the
    next one of the source that can be read fills it; where there is none nearby, the batch is empty.
    """
    failures: list[tuple[str, str]] = []

    def view(index: int) -> Tensor | None:
        image = _read(source, index, failures)
        return None if image is None else train_transform(image, augment, input, mix_seed(seed, work.epoch, index))

    views = {index: image for index in work.indices.tolist() if (image := view(index)) is not None}
    first = int(work.indices[0])
    for step in range(1, 1 + _SUBSTITUTES):
        if views:
            break
        index = (first + step) % len(source)
        image = view(index)
        if image is not None:
            views[index] = image
    readable = list(views)
    used = [
        index if index in views else readable[place % len(readable)]
        for place, index in enumerate(work.indices.tolist())
        if readable
    ]
    return Loaded(_stacked([views[index] for index in used], used, source, input), failures)


def load_eval(work: Work, *, source: Source, input: InputConfig) -> Loaded:
    """Images as evaluation sees them; those that cannot be read are left out."""
    failures: list[tuple[str, str]] = []
    views = {
        index: eval_transform(image, input)
        for index in work.indices.tolist()
        if (image := _read(source, index, failures)) is not None
    }
    return Loaded(_stacked(list(views.values()), list(views), source, input), failures)


def _read(source: Source, index: int, failures: list[tuple[str, str]]) -> Tensor | None:
    try:
        return source.read(index)
    except BadImage as error:
        failures.append((error.name, error.reason))
        return None


def _stacked(views: list[Tensor], indices: list[int], source: Source, input: InputConfig) -> Batch:
    chosen = torch.tensor(indices, dtype=torch.int64)
    images = torch.stack(views) if views else torch.zeros((0, 3, input.size, input.size), dtype=torch.uint8)
    return Batch(images, source.targets[chosen], chosen)
