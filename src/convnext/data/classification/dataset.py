"""What a data set is: something that names, labels and reads its images one by one.

Shapes: C channels (3: red, green, blue), H W space, N images, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class ClassificationDataset(Protocol):
    """Labelled images. Picklable and safe to fork, for it is read in worker processes."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names for people, K of them; the position is the class index."""
        ...

    @property
    def targets(self) -> Tensor:
        """Class index of each image, int64 (N,)."""
        ...

    def __len__(self) -> int:
        """N, the number of images."""
        ...

    def read(self, index: int) -> Tensor:
        """The image as uint8 (3, H, W) in 0..255, RGB. Raises `decode.BadImage` where it cannot be read."""
        ...

    def name(self, index: int) -> str:
        """What people are shown, unique in the data set: a path in the data set's folder, or `shard:key`."""
        ...


class ClassificationDataset(ClassificationDataset, Protocol):
    """A source that also knows its classes as the data names them: folders, or numbers as text."""

    class_dirs: tuple[str, ...]


class Subset:
    """Some images of a source, in the given order; a data set itself."""

    def __init__(self, source: ClassificationDataset, indices: Sequence[int] | Tensor) -> None:
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        if isinstance(source, Subset):  # a subset of a subset reads straight from the whole
            source, chosen = source.source, source.indices[chosen]
        self.source = source
        self.indices = chosen
        self.targets = source.targets[chosen]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.source.classes

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> Tensor:
        """uint8 (3, H, W); raises `decode.BadImage`."""
        return self.source.read(int(self.indices[index]))

    def name(self, index: int) -> str:
        return self.source.name(int(self.indices[index]))
