"""Decoded images kept in memory: small ones cost more to decode than everything else that is done to them."""

from __future__ import annotations

from torch import Tensor

from convnext.data.classification.dataset import ClassificationDataset


class CachedDataset:
    """A dataset that decodes each image of another one once, as long as what it keeps fits into `megabytes`.

    Meant for reading without worker processes: each of those would keep a copy of its own. An image that cannot be read
    is tried again each time.
    """

    def __init__(self, dataset: ClassificationDataset, *, megabytes: int) -> None:
        self.dataset = dataset
        self.classes, self.targets = dataset.classes, dataset.targets
        self.free = megabytes * 1_000_000
        self.kept: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, index: int) -> Tensor:
        """uint8 (3, H, W), not to be changed; raises `data.decode.BadImage`."""
        image = self.kept.get(index)
        if image is None:
            image = self.dataset.read(index)
            if image.numel() <= self.free:
                self.kept[index] = image
                self.free -= image.numel()
        return image

    def name(self, index: int) -> str:
        return self.dataset.name(index)
