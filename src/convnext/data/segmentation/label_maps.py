"""Images with a class for every pixel: what segmentation trains and is evaluated on.

Shapes: an image is uint8 (3, H, W), its labels uint8 (H, W); N images, K classes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from convnext.core.text import printable
from convnext.data.decode import BadImage, decode
from convnext.data.segmentation.decode_map import code_words, read_codes
from convnext.data.segmentation.palette import Colour, Palette
from convnext.data.strings import Strings


class LabelMapDataset:
    """Images and their label maps. Picklable and safe to fork: read in worker processes.

    root, images: the images' folder, and their paths in it. label_root, labels: of their label maps. indices: which
    of them, in this order; None: all. pixels: int64 (K,), of each class in all of them, where they were counted.
    """

    def __init__(
        self,
        root: Path,
        images: Strings,
        label_root: Path,
        labels: Strings,
        palette: Palette,
        *,
        max_pixels: int,
        indices: np.ndarray | None = None,
        pixels: np.ndarray | None = None,
    ) -> None:
        self.root, self.label_root, self.palette, self.max_pixels = root, label_root, palette, max_pixels
        self._images, self._labels, self.pixels = images, labels, pixels
        self._chosen = np.arange(len(images)) if indices is None else indices

    @property
    def classes(self) -> tuple[str, ...]:
        """K names."""
        return self.palette.classes

    @property
    def colours(self) -> tuple[Colour, ...]:
        """Of each class, to draw it in."""
        return self.palette.colours

    @property
    def values(self) -> tuple[int, ...]:
        """Of each class its value in label maps that are written in the data's convention."""
        return self.palette.values

    def __len__(self) -> int:
        """N, the number of images."""
        return len(self._chosen)

    def name(self, index: int) -> str:
        """The image's path below its folder."""
        return printable(self.key(index))

    def key(self, index: int) -> str:
        """The same as it is on the disk."""
        return self._images[self._chosen[index]]

    def read(self, index: int) -> Tensor:
        """uint8 (3, H, W). Raises BadImage where it cannot be read."""
        data = _bytes(self.root, self._images[self._chosen[index]], self.name(index))
        return decode(data, name=self.name(index), max_pixels=self.max_pixels)

    def labels(self, index: int) -> Tensor:
        """uint8 (H, W): the class of each pixel, IGNORE_INDEX where it has none. Raises BadImage where the label map
        cannot be read, or holds what is no class."""
        path = self._labels[self._chosen[index]]
        data = _bytes(self.label_root, path, self.name(index))
        by_colour, lossy = self.palette.by_colour, self.palette.nearest
        codes = read_codes(data, name=path, max_pixels=self.max_pixels, by_colour=by_colour, lossy=lossy)
        classes, unknown = self.palette.decoded(codes)
        if len(unknown):
            raise BadImage(self.name(index), f"its label map has {code_words(unknown, self.palette.by_colour)}")
        return torch.from_numpy(classes)

    @property
    def whole(self) -> bool:
        """Whether these are all of the part's images, of which `pixels` counts."""
        return len(np.unique(self._chosen)) == len(self._images)

    @property
    def indices(self) -> np.ndarray:
        """Which of all the part's images these are."""
        return self._chosen

    def selected(self, indices: Sequence[int] | Tensor) -> LabelMapDataset:
        """Some of these images, in the given order."""
        chosen = self._chosen[np.asarray(indices, dtype=np.int64)]
        parts = (self.root, self._images, self.label_root, self._labels, self.palette)
        return LabelMapDataset(*parts, max_pixels=self.max_pixels, indices=chosen, pixels=self.pixels)


def _bytes(root: Path, path: str, name: str) -> bytes:
    try:
        with open(os.path.join(root, path), "rb") as file:
            return file.read()
    except OSError as error:
        raise BadImage(name, f"{path} cannot be read ({error.strerror})") from None
