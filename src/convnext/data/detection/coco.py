"""Images with their objects: what detection trains and is evaluated on.

Shapes: an image is uint8 (3, H, W); N images, M objects of one of them, K classes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convnext.core.errors import UserError
from convnext.core.text import printable
from convnext.data.decode import BadImage, decode
from convnext.data.detection import polygons
from convnext.data.detection.annotations import Annotations
from convnext.data.detection.config import DetectionAugmentConfig
from convnext.data.detection.dataset import DetectionDataset
from convnext.data.headers import sizes_differ
from convnext.ops.instances import Instances

_MOST_MASK_PIXELS = 4_000_000_000  # bytes of memory for the masks of one image


class CocoDataset:
    """The images of an annotation file, or some of them. Picklable and safe to fork: read in worker processes.

    indices: which of the file's N images, in this order; None: all.
    """

    def __init__(self, file: Annotations, *, max_pixels: int, indices: np.ndarray | None = None) -> None:
        self.file, self.max_pixels = file, max_pixels
        self._images = np.arange(len(file.files)) if indices is None else indices
        self._order = np.argsort(file.images, kind="stable")  # the objects of each image side by side
        self._first = np.searchsorted(file.images[self._order], np.arange(len(file.files) + 1))
        self._region_order = np.argsort(file.region_images, kind="stable")
        self._region_first = np.searchsorted(file.region_images[self._region_order], np.arange(len(file.files) + 1))

    @property
    def classes(self) -> tuple[str, ...]:
        """K names, in the order of the category ids."""
        return self.file.classes

    @property
    def category_ids(self) -> tuple[int, ...]:
        """The file's number of each class, ascending."""
        return self.file.category_ids

    @property
    def has_masks(self) -> bool:
        """Whether the objects have masks, not boxes alone."""
        return self.file.has_masks

    @property
    def sizes(self) -> Tensor:
        """int64 (N, 2): height and width of each image."""
        return torch.from_numpy(self.file.sizes[self._images])

    @property
    def counts(self) -> Tensor:
        """int64 (N,): objects in each image, crowds not counted."""
        inside = np.bincount(self.file.images[~self.file.crowds], minlength=len(self.file.files))
        return torch.from_numpy(inside[self._images])

    def present(self) -> np.ndarray:
        """bool (N, K): which classes each image has objects of, crowds not counted."""
        kept = ~self.file.crowds
        found = np.zeros((len(self.file.files), len(self.classes)), dtype=bool)
        found[self.file.images[kept], self.file.labels[kept]] = True
        return found[self._images]

    def __len__(self) -> int:
        """N, the number of images."""
        return len(self._images)

    def name(self, index: int) -> str:
        """The path below the folder of the images."""
        return printable(self.key(index))

    def key(self, index: int) -> str:
        """The same as it is on the disk."""
        return self.file.files[self._images[index]]

    def image_id(self, index: int) -> int:
        """The image's number in the file."""
        return int(self.file.image_ids[self._images[index]])

    def read(self, index: int) -> Tensor:
        """uint8 (3, H, W). Raises BadImage where it cannot be read, or is not as large as the annotations say."""
        try:
            with open(os.path.join(self.file.root, self.file.files[self._images[index]]), "rb") as file:
                data = file.read()
        except OSError as error:
            raise BadImage(self.name(index), f"the file cannot be read ({error.strerror})") from None
        image = decode(data, name=self.name(index), max_pixels=self.max_pixels)
        said, found = self._size(index), (image.shape[1], image.shape[2])
        if found != said:
            path = self.file.root / self.file.files[int(self._images[index])]
            raise BadImage(self.name(index), sizes_differ(found, said, path))
        return image

    def instances(self, index: int) -> Instances:
        """The image's objects, crowds left out; masks bool (M, H, W) where there are any, of the image's size.

        Raises BadImage where their masks would fill the memory.
        """
        rows = self._rows(index)
        rows = rows[~self.file.crowds[rows]]
        boxes = torch.from_numpy(self.file.boxes[rows])
        labels = torch.from_numpy(self.file.labels[rows])
        ignored = self._ignored(index)
        if not self.has_masks:
            return Instances(boxes, labels, ignored=ignored)
        height, width = self._size(index)
        if len(rows) * height * width > _MOST_MASK_PIXELS:
            raise BadImage(self.name(index), f"masks of {len(rows)} objects of {width} x {height} pixels are too many")
        masks = np.zeros((len(rows), height, width), dtype=bool)
        for mask, row in zip(masks, rows.tolist(), strict=True):
            if (outline := self.file.polygons[row]) is not None:
                mask[:] = polygons.mask(outline, height, width)
        outlined = self.file.outlined[rows]
        known = None if outlined.all() else torch.from_numpy(outlined)
        return Instances(boxes, labels, torch.from_numpy(masks), outlined=known, ignored=ignored)

    def _ignored(self, index: int) -> Tensor | None:
        """Boxes of crowds and of annotations that were left out, float32 (R, 4); None where there are none."""
        rows, image = self._rows(index), int(self._images[index])
        crowds = self.file.boxes[rows[self.file.crowds[rows]]]
        found = np.concatenate([crowds, self._regions(image)])
        return torch.from_numpy(found) if len(found) else None

    def selected(self, indices: Sequence[int] | Tensor) -> CocoDataset:
        """Some of these images, in the given order."""
        chosen = self._images[np.asarray(indices, dtype=np.int64)]
        return CocoDataset(self.file, max_pixels=self.max_pixels, indices=chosen)

    def truth(self) -> dict[str, list[dict[str, Any]]]:
        """These images as COCO's tools take them: {"images", "annotations", "categories"}, crowds included.

        Regions to ignore that are no annotation are crowds of every class, so that nothing found there counts against a
        detector. Boxes are the file's own, not cut off, so that figures are those of COCO's tools on the file itself.
        Areas that the file lacks are those of the masks, or of the boxes. Annotations are numbered from 1: COCO's tools
        take an object with the number 0 for one that was not found.
        """
        images = [
            {"id": self.image_id(i), "file_name": self.name(i), "height": self._size(i)[0], "width": self._size(i)[1]}
            for i in range(len(self))
        ]
        annotations: list[dict[str, Any]] = []
        for index in range(len(self)):
            for row in self._rows(index).tolist():
                annotations.append(self._annotation(row, index, len(annotations) + 1))
            for region in self._regions(int(self._images[index])).tolist():
                for number in self.category_ids:
                    annotations.append(self._region(region, index, number, len(annotations) + 1))
        categories = [
            {"id": number, "name": name} for number, name in zip(self.category_ids, self.classes, strict=True)
        ]
        return {"images": images, "annotations": annotations, "categories": categories}

    def _annotation(self, row: int, index: int, number: int) -> dict[str, Any]:
        box = self.file.given[row].tolist()
        area = float(self.file.areas[row])
        outline = self.file.polygons[row] if self.has_masks else None
        if math.isnan(area):
            area = box[2] * box[3] if outline is None else float(polygons.mask(outline, *self._size(index)).sum())
        annotation = {
            "id": number,
            "image_id": self.image_id(index),
            "category_id": self.category_ids[int(self.file.labels[row])],
            "bbox": box,
            "area": area,
            "iscrowd": int(self.file.crowds[row]),
        }
        if self.has_masks and outline is None:  # no outline to compare masks with: they are not judged there
            x, y, w, h = box
            outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            annotation |= {"ignore_mask": 1}
        return annotation if outline is None else annotation | {"segmentation": outline}

    def _region(self, region: list[float], index: int, category: int, number: int) -> dict[str, Any]:
        x0, y0, x1, y1 = region
        entry = {"id": number, "image_id": self.image_id(index), "category_id": category, "iscrowd": 1}
        entry |= {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}
        return entry | ({"segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]]} if self.has_masks else {})

    def _regions(self, image: int) -> np.ndarray:
        return self.file.regions[self._region_order[self._region_first[image] : self._region_first[image + 1]]]

    def _rows(self, index: int) -> np.ndarray:
        image = int(self._images[index])
        return self._order[self._first[image] : self._first[image + 1]]

    def _size(self, index: int) -> tuple[int, int]:
        height, width = self.file.sizes[self._images[index]].tolist()
        return height, width


def for_training(dataset: DetectionDataset, augment: DetectionAugmentConfig) -> DetectionDataset:
    """The images that training uses: those without objects, or with a side that is too short, left out as `augment`
    says. Raises UserError where none remains."""
    fit = dataset.sizes.min(dim=1).values >= augment.min_side
    if augment.drop_empty:
        fit &= dataset.counts > 0
    if not fit.any():
        raise UserError(
            f"None of {len(dataset):,} images can be trained on: they have no object, or a side of less than "
            f"{augment.min_side} pixels (--augment.no-drop-empty and --augment.min-side 1 keep them)."
        )
    return dataset if bool(fit.all()) else dataset.selected(torch.nonzero(fit).flatten())
