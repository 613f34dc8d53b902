"""Images with a class each. Shapes: H W space, N images, K classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from convnext.data.dataset import Dataset


class ClassificationDataset(Dataset, Protocol):
    """Images with a class each: what classification trains and is evaluated on."""

    @property
    def targets(self) -> Tensor:
        """Class index of each image, int64 (N,)."""
        ...


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

    def selected(self, indices: Sequence[int] | Tensor) -> Subset:
        """Some of these images, in the given order."""
        return Subset(self, indices)
