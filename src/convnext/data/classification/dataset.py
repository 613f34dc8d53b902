"""Images with a class each. Shapes: H W space, N images, K classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from convnext.data.dataset import Dataset
from convnext.data.splits import identity


class ClassificationDataset(Dataset, Protocol):
    """Images with a class each: what classification trains and is evaluated on."""

    @property
    def targets(self) -> Tensor:
        """Class index of each image, int64 (N,); or, where an image can have several labels or none, uint8 (N, K): 1
        for each label that it has."""
        ...


def several_labels(dataset: ClassificationDataset) -> bool:
    """Whether an image can have several labels (multi-label), rather than one class."""
    return dataset.targets.ndim == 2


def images_of_each(dataset: ClassificationDataset) -> Tensor:
    """How many images each class, or label, has: int64 (K,)."""
    if several_labels(dataset):
        return dataset.targets.sum(dim=0, dtype=torch.int64)
    return torch.bincount(dataset.targets, minlength=len(dataset.classes))


def labels_of(dataset: ClassificationDataset, index: int) -> str:
    """The class of an image, or its labels, in words."""
    target = dataset.targets[index]
    if not several_labels(dataset):
        return dataset.classes[int(target)]
    return ", ".join(dataset.classes[k] for k in target.nonzero().flatten().tolist()) or "no label"


def class_dirs(dataset: ClassificationDataset) -> tuple[str, ...]:
    """The classes as the data names them (folders, or numbers as text), K of them; their names where it does not."""
    return tuple(getattr(dataset, "class_dirs", dataset.classes))


class Subset:
    """Some images of a data set, in the given order; a data set itself."""

    def __init__(self, dataset: ClassificationDataset, indices: Sequence[int] | Tensor) -> None:
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        if isinstance(dataset, Subset):  # a subset of a subset reads straight from the whole
            dataset, chosen = dataset.dataset, dataset.indices[chosen]
        self.dataset = dataset
        self.indices = chosen
        self.targets = dataset.targets[chosen]
        self.class_dirs = class_dirs(dataset)

    @property
    def classes(self) -> tuple[str, ...]:
        """K names."""
        return self.dataset.classes

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> Tensor:
        """uint8 (3, H, W); raises `decode.BadImage`."""
        return self.dataset.read(int(self.indices[index]))

    def name(self, index: int) -> str:
        """What people are shown."""
        return self.dataset.name(int(self.indices[index]))

    def key(self, index: int) -> str:
        """What tells the image from all others."""
        return identity(self.dataset, int(self.indices[index]))

    def selected(self, indices: Sequence[int] | Tensor) -> Subset:
        """Some of these images, in the given order."""
        return Subset(self, indices)
