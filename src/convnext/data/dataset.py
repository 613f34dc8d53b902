"""What every data set answers: how many images it has, what they are called, their pixels, the names of the classes.

Shapes: H W space, N images, K classes. Each task's own protocol adds what its images are labelled with
(`classification.dataset`, `detection.dataset`, `segmentation.dataset`). Any object with these methods will do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Generic, Protocol, TypeVar

from torch import Tensor

from convnext.data.config import LoaderConfig
from convnext.data.splits import Record, Splits, given_splits, no_split, the_part

D = TypeVar("D", bound="Dataset")


class Dataset(Protocol):
    """Images of one part of a data set. Picklable and safe to fork, for it is read in worker processes.

    Where two images can be printed alike, it also has `key(index)`, which tells them apart (`splits.identity`).
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """K names for people; the position is the class index."""
        ...

    def __len__(self) -> int:
        """N, the number of images."""
        ...

    def name(self, index: int) -> str:
        """What people are shown, unique in the data set: a path in the data set's folder, or `shard:key`."""
        ...

    def read(self, index: int) -> Tensor:
        """The image as uint8 (3, H, W), RGB, 0..255. Raises `data.decode.BadImage` where it cannot be read."""
        ...


class DataModule(Protocol[D]):
    """A data set with its parts, found once; a part is read when it is first asked for, and then kept."""

    @property
    def data(self) -> str | Path:
        """Where it is."""
        ...

    def splits(self, loader: LoaderConfig, *, seed: int, saved: Record | None = None) -> Splits[D]:
        """The training and validation parts: the data's own, or a share held out at random.

        saved: a record (`Splits.record`) of an earlier call; exactly its images are held out again, and
        `loader.val_fraction` and `seed` are not looked at. Raises UserError where those images are gone.
        """
        ...

    def for_evaluation(self, loader: LoaderConfig, split: str = "") -> D:
        """The images to evaluate on: the validation part where the data has one, else all. split: the part to take
        instead, "train", "val" or "test". Raises UserError where the data has no part of that name."""
        ...


class GivenData(Generic[D]):
    """Two data set objects of one's own as a data module; without `val`, nothing is held out."""

    def __init__(self, train: D, val: D | None = None) -> None:
        self._train, self._val = train, val
        self.data = type(train).__name__

    def splits(self, loader: LoaderConfig, *, seed: int, saved: Record | None = None) -> Splits[D]:
        """As `DataModule.splits`."""
        if self._val is None:
            return no_split(
                lambda: self._train, found=f"{len(self._train):,} images", why="no validation set was given"
            )
        val = self._val
        found = f"{len(self._train):,} images of {len(self._train.classes):,} classes"
        return given_splits(
            lambda: self._train, lambda: val, "val", saved, found=lambda _: found, seed=seed, fraction=0.0
        )

    def for_evaluation(self, loader: LoaderConfig, split: str = "") -> D:
        """As `DataModule.for_evaluation`."""
        parts = {"train": self._train} | ({} if self._val is None else {"val": self._val})
        return the_part(split, parts, self.data) if split else parts.get("val", self._train)
