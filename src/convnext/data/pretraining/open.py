"""Images without labels: whatever a classifier's data holds, its labels unread, or any images below a folder.

N images.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch

from convnext.core.errors import UserError
from convnext.data.classification.dataset import ClassificationDataset, Subset
from convnext.data.classification.files import ImageFiles
from convnext.data.classification.open import ClassificationData
from convnext.data.classification.open import recognise as recognise_classes
from convnext.data.classification.scan import Scan, images_below
from convnext.data.config import LoaderConfig
from convnext.data.dataset import DataModule
from convnext.data.recognise import Mine, NotMine, Verdict
from convnext.data.splits import Record, Splits, drawn_splits, the_part, with_notes


class UnlabelledImages(ImageFiles):
    """N images at any depth below a folder, in the order of their paths; to whoever asks, all of one class.

    `notes` says what was passed over. Raises UserError where there is none.
    """

    classes: tuple[str, ...] = ("image",)

    def __init__(self, root: Path, *, max_pixels: int) -> None:
        found = Scan()
        paths = sorted(images_below(root, scan=found))
        if not paths:
            raise UserError(f"{root} holds no images, at any depth.")
        super().__init__(root, paths, max_pixels=max_pixels)
        self.targets = torch.zeros(len(paths), dtype=torch.int64)
        self.notes = tuple(found.notes(root))


class UnlabelledData:
    """All images below a folder (`DataModule`), of which a share is held out."""

    def __init__(self, data: str | Path) -> None:
        self.data = data
        self._whole: UnlabelledImages | None = None

    def splits(self, loader: LoaderConfig, *, seed: int, saved: Record | None = None) -> Splits[ClassificationDataset]:
        """As `DataModule.splits`: a share held out at random."""
        whole = self._read(loader)
        every = cast("ClassificationDataset", Subset(whole, range(len(whole))))
        found = f"{len(whole):,} images, whose labels are not asked for"
        splits = drawn_splits(every, saved, self.data, found=found, seed=seed, fraction=loader.val_fraction)
        return with_notes(splits, lambda train, val: whole.notes)

    def for_evaluation(self, loader: LoaderConfig, split: str = "") -> ClassificationDataset:
        """As `DataModule.for_evaluation`."""
        whole = self._read(loader)
        return the_part(split, {"train": whole}, self.data) if split else whole

    def _read(self, loader: LoaderConfig) -> UnlabelledImages:
        if self._whole is None:
            self._whole = UnlabelledImages(Path(self.data), max_pixels=loader.max_pixels)
        return self._whole


def open_images(data: str | Path) -> DataModule[ClassificationDataset]:
    """The images at a path: the parts of a classifier's data where it is that, else all that lie below it.

    Raises UserError for a path that is no folder.
    """
    if not Path(data).is_dir() and not isinstance(recognise_classes(str(data)), Mine):
        raise UserError(f"There is no {data}." if not Path(data).exists() else f"{data} is no folder of images.")
    return ClassificationData(data) if isinstance(recognise_classes(str(data)), Mine) else UnlabelledData(data)


def recognise(data: str) -> Verdict:
    """Whether a path holds images at all; labels do not matter."""
    known = recognise_classes(data)
    if isinstance(known, Mine):
        return Mine(f"{known.reason}; labels are not used")
    if Path(data).is_dir() and next(images_below(Path(data)), None) is not None:
        return Mine("there are images below it")
    return NotMine()
