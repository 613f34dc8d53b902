"""Annotated objects with outlines (COCO's form, YOLO's polygons, ...) as label maps: `--labels objects`.

The first class is the background, the others are those of the objects. Shapes: H W space, N images, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from convnext.core.errors import UserError
from convnext.core.logs import track
from convnext.data.config import LoaderConfig
from convnext.data.decode import BadImage
from convnext.data.detection.coco import CocoDataset
from convnext.data.detection.open import DetectionData
from convnext.data.segmentation.palette import Colour, chosen_colours
from convnext.data.splits import Record, Splits
from convnext.ops.losses import IGNORE_INDEX, MAX_CLASSES

OBJECTS = "objects"
"""What --labels is for such data."""
_BACKGROUND = "background"
_COUNTED = 1000  # images whose pixels are counted


class OutlineDataset:
    """Images with a class for every pixel, made of their objects' outlines (`SegmentationDataset`).

    A pixel is of the smallest object that covers it, else background. It has no class where a crowd, an object that was
    left out, or one without an outline may be: inside of their boxes, where no outlined object is.

    Raises UserError for objects that have boxes alone, and more than 254 classes.
    """

    def __init__(self, objects: CocoDataset) -> None:
        if not objects.has_masks:
            raise UserError(
                f"The objects in {objects.file.path} have boxes alone; label maps are made of outlines "
                "('segmentation')."
            )
        if len(objects.classes) >= MAX_CLASSES:
            raise UserError(f"{len(objects.classes)} classes and the background are more than {MAX_CLASSES}.")
        self._objects = objects

    @cached_property
    def pixels(self) -> np.ndarray:
        """int64 (K,): pixels of each class, counted when they are first asked for. Of more than 1,000 images, so many
        are looked at, spread over all, and the counts are scaled; a class with objects has at least one pixel."""
        count = min(len(self), _COUNTED)
        places = [place * len(self) // count for place in range(count)]
        found = np.zeros(256, dtype=np.int64)
        for place in track(places, "Counting the pixels of each class", count, unit="images"):
            try:
                found += np.bincount(self.labels(place).numpy().ravel(), minlength=256)
            except BadImage:
                continue  # named where it is trained on
        there = np.concatenate([[False], self._objects.present().any(axis=0)])
        return np.maximum(found[: len(self.classes)] * len(self) // max(count, 1), there)

    @property
    def classes(self) -> tuple[str, ...]:
        """K names, "background" first."""
        return (_BACKGROUND, *self._objects.classes)

    @property
    def colours(self) -> tuple[Colour, ...]:
        """Of each class, to draw it in; the background is black."""
        return ((0, 0, 0), *chosen_colours(len(self._objects.classes)))

    @property
    def values(self) -> tuple[int, ...]:
        """Of each class its value in label maps that are written: its index."""
        return tuple(range(len(self.classes)))

    def __len__(self) -> int:
        """N, the number of images."""
        return len(self._objects)

    def name(self, index: int) -> str:
        """The path below the folder of the images."""
        return self._objects.name(index)

    def key(self, index: int) -> str:
        """The same as it is on the disk."""
        return self._objects.key(index)

    def read(self, index: int) -> Tensor:
        """uint8 (3, H, W). Raises BadImage."""
        return self._objects.read(index)

    def labels(self, index: int) -> Tensor:
        """uint8 (H, W): the class of each pixel, IGNORE_INDEX where it has none. Raises BadImage."""
        found = self._objects.instances(index)
        height, width = self._objects.sizes[index].tolist()
        labels = torch.zeros(height, width, dtype=torch.uint8)
        masks = found.masks if found.masks is not None else torch.zeros(0, height, width, dtype=torch.bool)
        unknown = found.boxes[:0] if found.outlined is None else found.boxes[~found.outlined]
        for box in [*unknown, *(found.boxes[:0] if found.ignored is None else found.ignored)]:
            x0, y0, x1, y1 = (int(side) for side in (box[0].floor(), box[1].floor(), box[2].ceil(), box[3].ceil()))
            labels[max(y0, 0) : y1, max(x0, 0) : x1] = IGNORE_INDEX
        for row in torch.argsort(masks.sum(dim=(1, 2)), descending=True, stable=True).tolist():  # small ones on top
            labels[masks[row]] = int(found.labels[row]) + 1
        return labels

    def selected(self, indices: Sequence[int] | Tensor) -> OutlineDataset:
        """Some of these images, in the given order."""
        return OutlineDataset(self._objects.selected(indices))


class OutlineData:
    """The same, opened (`DataModule`): whatever `DetectionData` takes. Raises UserError as that does."""

    def __init__(self, data: str | Path) -> None:
        self.data = data
        self._objects = DetectionData(data)

    def splits(self, loader: LoaderConfig, *, seed: int, saved: Record | None = None) -> Splits[OutlineDataset]:
        """As `DataModule.splits`."""
        objects = self._objects.splits(loader, seed=seed, saved=saved)
        made = "The outlines are made into label maps: the background, and a class for each kind of object."
        splits = Splits(
            lambda: OutlineDataset(objects.train),
            lambda: OutlineDataset(objects.val) if objects.held_out else splits.train,
            held_out=objects.held_out,
            note=lambda train, val: f"{objects.note}\n{made}",
            record=lambda val: objects.record,
        )
        return splits

    def for_evaluation(self, loader: LoaderConfig, split: str = "") -> OutlineDataset:
        """As `DataModule.for_evaluation`."""
        return OutlineDataset(self._objects.for_evaluation(loader, split))

    def num_train_images(self, val_fraction: float) -> int:
        """How many images there are to train on."""
        return len(self._objects.splits(LoaderConfig(val_fraction=val_fraction, skip_bad=True), seed=0).train)
