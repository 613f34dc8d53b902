"""Images in tar files ("shards"): an index made once, then reads by position. Nothing is ever unpacked to disk.

An image is uint8 (3, H, W); N images, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from convnext.core.errors import UserError, nearest
from convnext.core.text import printable
from convnext.data.bands import decode_bands
from convnext.data.classification.names import names_of_folders, names_of_numbers
from convnext.data.classification.shard_index import Sample, ShardIndex
from convnext.data.decode import BadImage
from convnext.data.strings import Strings

_MAX_OPEN = 64  # shards open at once in each process; systems allow 1024 files or fewer


class ShardDataset:
    """The labelled images of some tar files (or of a listing of them), in the order of the files and of their members.

    `keys` fixes which classes there are and their order (those of the training part); without it: every name sorted, or
    every number up to the greatest (or to the last name in classes.txt), from 0, or from 1 where no image is of class
    0. `keys` are kept as `class_dirs`: names, or the numbers as text. part: a folder in the tars; its images alone.
    bands, white: as `decode_bands` takes them.

    `notes` says what was left out and guessed. Raises UserError as `ShardIndex` does, and for a class that `keys` does
    not have.
    """

    def __init__(
        self,
        shards: Sequence[Path] | ShardIndex,
        *,
        max_pixels: int,
        keys: Sequence[str] | None = None,
        part: str = "",
        bands: int = 3,
        white: float = 0.0,
    ) -> None:
        index = shards if isinstance(shards, ShardIndex) else ShardIndex(shards)
        self.tars, self.max_pixels, self.bands, self.white = index.tars, max_pixels, bands, white
        samples, notes = index.of_part(part), index.notes()
        folder = index.paths[0].absolute().parent
        if index.numbered:
            self.class_dirs, self.classes, more = _numbered_classes(index, samples, folder, keys)
            notes += more
        else:
            self.class_dirs = tuple(sorted({sample.label for sample in samples}) if keys is None else keys)
            self.classes = names_of_folders(self.class_dirs, folder)
        self.notes = tuple(notes)
        number = {key: i for i, key in enumerate(self.class_dirs)}
        for sample in samples:
            if sample.label not in number:
                raise UserError(
                    f"{index.shown(sample)} is of class '{printable(sample.label)}', which the training images do not "
                    f"have.{nearest(sample.label, self.class_dirs)}"
                )
        self.targets = torch.tensor([number[sample.label] for sample in samples])
        self.names = Strings([sample.name for sample in samples])
        self.places = np.array([(sample.shard, sample.offset, sample.size) for sample in samples], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """`shard:key`, as "train-000.tar:000017"."""
        return printable(self.key(index))

    def key(self, index: int) -> str:
        """The same as it is in the shard."""
        return f"{self.tars[self.places[index, 0]].path.name}:{self.names[index]}"

    def content(self, index: int) -> bytes:
        """The bytes of the image's file; raises BadImage."""
        shard, offset, size = self.places[index].tolist()
        archive = self.tars[shard]
        if not archive.opened and not archive.compressed:
            self._make_room()
        try:
            return archive.read(offset, size)
        except OSError as error:
            raise BadImage(self.name(index), f"the shard cannot be read ({error.strerror})") from None

    def read(self, index: int) -> Tensor:
        """uint8 (bands, H, W); raises BadImage."""
        name, limit = self.name(index), self.max_pixels
        return decode_bands(self.content(index), name=name, max_pixels=limit, bands=self.bands, white=self.white)

    def _make_room(self) -> None:
        opened = [archive for archive in self.tars if archive.opened]
        for archive in opened[: max(len(opened) - _MAX_OPEN + 1, 0)]:
            archive.close()


def _numbered_classes(
    index: ShardIndex, samples: Sequence[Sample], folder: Path, keys: Sequence[str] | None
) -> tuple[tuple[str, ...], tuple[str, ...], list[str]]:
    """(keys, display names, sentences for people) of classes that are numbers."""
    names = names_of_numbers(folder)
    used = {int(sample.label) for sample in samples}
    most = max(samples, key=lambda sample: int(sample.label))
    last = max(used)
    from_one = min(used) == 1 and (names is None or len(names) == last) if keys is None else keys[0] == "1"
    if keys is not None:
        numbers = tuple(keys)
    elif from_one:
        numbers = tuple(str(i) for i in range(1, last + 1))
    else:
        numbers = tuple(str(i) for i in range(max(last + 1, len(names or ()))))
    if names is not None and len(names) < len(numbers):
        raise UserError(
            f"{index.shown(most)} is of class {most.label}, but classes.txt in (or above) {folder} names {len(names)} "
            "classes only: one line for each is needed, the first for class 0."
        )
    notes = []
    if from_one and keys is None:
        notes.append(f"Class numbers run from 1 to {last}: 1 is the first class.")
    empty = [number for number in numbers if int(number) not in used]
    if empty and keys is None:
        some = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
        notes.append(f"{len(empty):,} of the {len(numbers):,} class numbers have no image ({some}).")
    return numbers, numbers if names is None else names[: len(numbers)], notes
