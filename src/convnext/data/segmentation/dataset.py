"""Images with a class for every pixel. Shapes: H W space, N images, K classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
from torch import Tensor

from convnext.data.dataset import Dataset

S = TypeVar("S", bound="SegmentationDataset")


class SegmentationDataset(Dataset, Protocol):
    """Images with label maps: what segmentation trains and is evaluated on."""

    @property
    def colours(self) -> tuple[tuple[int, int, int], ...]:
        """Of each class, to draw it in: red, green, blue, 0..255."""
        ...

    @property
    def values(self) -> tuple[int, ...]:
        """Of each class its value in label maps that are written in the data's convention."""
        ...

    @property
    def pixels(self) -> np.ndarray | None:
        """int64 (K,): pixels of each class in all images, where they were counted."""
        ...

    def labels(self, index: int) -> Tensor:
        """uint8 (H, W): the class of each pixel, 255 where it has none. Raises `data.decode.BadImage`."""
        ...

    def selected(self: S, indices: Sequence[int] | Tensor) -> S:
        """Some of these images, in the given order."""
        ...
