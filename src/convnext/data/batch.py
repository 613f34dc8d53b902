"""One batch: reading, augmenting and stacking its images, in a worker process or in this one.

Shapes: B batch, S the model's size. Batches are uint8, on the CPU; `mix.prepare` goes on from here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from convnext.core.seeding import mix_seed
from convnext.data.augment import train_transform
from convnext.data.config import AugmentConfig, InputConfig
from convnext.data.decode import BadImage
from convnext.data.preprocess import eval_transform
from convnext.data.source import Source

B = TypeVar("B")
V = TypeVar("V")
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


class Loaded(NamedTuple, Generic[B]):
    """What comes back: the batch, how many images it has, and (name, reason) of each that could not be read."""

    batch: B
    num_images: int
    failures: list[tuple[str, str]]


def load_train(work: Work, *, source: Source, augment: AugmentConfig, input: InputConfig, seed: int) -> Loaded[Batch]:
    """Augmented images; image i of epoch e with seed mix_seed(seed, e, i).

    Images that can be read take the places of those that cannot, so that the batch keeps its shape. Where none can, the
    next one of the source that can be read fills it; where there is none nearby, the batch is empty.
    """
    failures: list[tuple[str, str]] = []

    def view(index: int) -> Tensor | None:
        image = _read(source, index, failures)
        return None if image is None else train_transform(image, augment, input, mix_seed(seed, work.epoch, index))

    used, views = filled(work.indices.tolist(), len(source), view)
    return Loaded(_stacked(views, used, source, input), len(used), failures)


def load_eval(work: Work, *, source: Source, input: InputConfig) -> Loaded[Batch]:
    """Images as evaluation sees them; those that cannot be read are left out."""
    failures: list[tuple[str, str]] = []
    views = {
        index: eval_transform(image, input)
        for index in work.indices.tolist()
        if (image := _read(source, index, failures)) is not None
    }
    return Loaded(_stacked(list(views.values()), list(views), source, input), len(views), failures)


def filled(indices: Sequence[int], num_images: int, view: Callable[[int], V | None]) -> tuple[list[int], list[V]]:
    """The images that a batch is made of, and the view of each: of `indices`, as many as there are.

    view: an image's index, in 0..num_images-1, to what training sees of it; None where it cannot be read. Images that
    can be read take the places of those that cannot. Where none can, the next ones of the data set are tried; both
    lists are empty where none of those can be read either.
    """
    views = {index: seen for index in indices if (seen := view(index)) is not None}
    for step in range(1, 1 + _SUBSTITUTES):
        if views:
            break
        index = (indices[0] + step) % num_images
        seen = view(index)
        if seen is not None:
            views[index] = seen
    readable = list(views)
    used = [
        index if index in views else readable[place % len(readable)] for place, index in enumerate(indices) if readable
    ]
    return used, [views[index] for index in used]


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
