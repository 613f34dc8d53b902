"""Images in tar files ("shards"): an index made once, then reads by position. Nothing is ever unpacked to disk.

An image is uint8 (3, H, W); N images, K classes.

Two layouts; the first is meant where any class file is inside:

    000017.jpg + 000017.cls       WebDataset: the class is an integer in ASCII (or "label" in 000017.json)
    any/where/cat/anything.jpg    a class folder in a tar: the class is the folder the image lies in
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from convnext.core.errors import UserError, nearest
from convnext.core.logs import Progress, say
from convnext.core.text import printable
from convnext.data import tar
from convnext.data.classification.names import names_of_folders, names_of_numbers
from convnext.data.decode import IMAGE_SUFFIXES, BadImage, decode
from convnext.data.strings import Strings
from convnext.data.tar import Member, Tar

SHARD_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_MAX_CLASSES = 100_000  # a class number beyond is taken for a mistake (ImageNet-22k has 21,841)
_MAX_LABEL_BYTES = 1 << 16  # longer .json files are annotations of another kind
_MAX_OPEN = 64  # shards open at once in each process; systems allow 1024 files or fewer
_TOLERATED = 0.01  # share of images without a class (or classes without an image) that is named and left out


class _Sample(NamedTuple):
    shard: int
    offset: int
    size: int
    name: str  # the member's name, or its key where classes are integers
    label: str  # class folder, or the integer


class ShardDataset:
    """The labelled images of some tar files, in the order of the files and of their members.

    `keys` fixes which classes there are and their order (those of the training part); without it: every folder name
    sorted, or every integer up to the greatest (or to the last name in classes.txt). `keys` are kept as `class_dirs`:
    folder names, or the integers as text. Raises UserError for a damaged tar, a class file that holds no class, a
    class that `keys` does not have, and where more than 1 % of the images have no class.
    """

    def __init__(self, paths: Sequence[Path], *, max_pixels: int, keys: Sequence[str] | None = None) -> None:
        self.tars = [Tar(path) for path in paths]
        self.max_pixels = max_pixels
        samples, numbered = _index(self.tars)
        if not samples:
            raise UserError(
                f"There is no image in {_listed(paths)}. Accepted are tars of 000.jpg + 000.cls (a class number each), "
                "or of folders named after the classes."
            )
        folder = paths[0].absolute().parent
        if numbered:
            self.class_dirs, self.classes = _numbered_classes(samples, folder, keys, self.tars)
        else:
            self.class_dirs = tuple(sorted({sample.label for sample in samples}) if keys is None else keys)
            self.classes = names_of_folders(self.class_dirs, folder)
        number = {key: i for i, key in enumerate(self.class_dirs)}
        for sample in samples:
            if sample.label not in number:
                raise UserError(
                    f"{self._shown(sample)} is of class '{printable(sample.label)}', which the training images do not "
                    f"have.{nearest(sample.label, self.class_dirs)}"
                )
        self.targets = torch.tensor([number[sample.label] for sample in samples])
        self.names = Strings([sample.name for sample in samples])
        self.places = np.array([(sample.shard, sample.offset, sample.size) for sample in samples], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.names)

    def _shown(self, sample: _Sample) -> str:
        return printable(f"{self.tars[sample.shard].path.name}:{sample.name}")

    def name(self, index: int) -> str:
        """`shard:key`, as "train-000.tar:000017"."""
        return printable(f"{self.tars[self.places[index, 0]].path.name}:{self.names[index]}")

    def read(self, index: int) -> Tensor:
        """uint8 (3, H, W); raises BadImage."""
        shard, offset, size = self.places[index].tolist()
        archive = self.tars[shard]
        if not archive.opened and not archive.compressed:
            self._make_room()
        try:
            data = archive.read(offset, size)
        except OSError as error:
            raise BadImage(self.name(index), f"the shard cannot be read ({error.strerror})") from None
        return decode(data, name=self.name(index), max_pixels=self.max_pixels)

    def _make_room(self) -> None:
        opened = [archive for archive in self.tars if archive.opened]
        for archive in opened[: max(len(opened) - _MAX_OPEN + 1, 0)]:
            archive.close()


def _index(archives: Sequence[Tar]) -> tuple[list[_Sample], bool]:
    """All samples, and whether their classes are integers. Says or raises what does not fit together."""
    images: list[_Sample] = []
    labels: dict[tuple[int, str], str] = {}
    for shard, member in _members(archives):
        folder, file = posixpath.split(member.name)
        if file.startswith(".") or "__MACOSX" in folder:
            continue
        ending = posixpath.splitext(file)[1].lower()
        if ending in IMAGE_SUFFIXES:
            images.append(_Sample(shard, member.offset, member.size, member.name, posixpath.basename(folder)))
        elif ending in (".cls", ".json") and member.size <= _MAX_LABEL_BYTES:
            key = posixpath.splitext(member.name)[0]
            label = _label(archives[shard], key, ending, archives[shard].read(member.offset, member.size))
            if label is not None and (ending == ".cls" or (shard, key) not in labels):
                labels[shard, key] = label
    if labels:
        return _with_numbers(images, labels, archives), True
    for sample in images:
        if sample.label in ("", ".", ".."):
            raise UserError(
                f"{archives[sample.shard].path.name}:{printable(sample.name)} has no class: it lies in no folder, and "
                "no .cls file is in the tar. Pack folders named after the classes, or add a .cls with its number."
            )
    return images, False


def _members(archives: Sequence[Tar]) -> Iterator[tuple[int, Member]]:
    """(shard, member) of all files in all tars, while showing progress."""
    done = unpacked = count = 0
    sizes = [archive.size_on_disk for archive in archives]
    with Progress("Listing shards", max(sum(sizes) >> 20, 1), unit="MiB") as progress:
        for shard, archive in enumerate(archives):
            for member in archive.members():
                count += 1
                if count % 1000 == 0:
                    progress.update((done + sizes[shard] * member.offset // archive.length) >> 20)
                yield shard, member
            done += sizes[shard]
            archive.close()  # a dataset can have more shards than a process may have open files
            unpacked += archive.length if archive.compressed else 0
            if unpacked > tar.MAX_UNPACKED:
                raise UserError(
                    f"The .tar.gz files together are more than {tar.MAX_UNPACKED >> 30} GiB when decompressed, too "
                    f"much to hold in memory. Decompress them once: gunzip -k {archive.path.parent}/*.gz."
                )


def _label(archive: Tar, key: str, ending: str, data: bytes) -> str | None:
    """The integer class in a .cls or .json file, as text without leading zeros; None for a .json without a class."""
    if ending == ".json":
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return None
        number = value.get("label") if isinstance(value, dict) else None
        if not isinstance(number, int) or isinstance(number, bool):
            return None
        text = str(number)
    else:
        text = data.decode("ascii", errors="replace").strip()
    where = f"{archive.path.name}:{printable(key)}{ending}"
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise UserError(f"{where} holds {text[:40]!r}; it should hold a class number: 0, 1, 2, ...")
    if int(text) >= _MAX_CLASSES:
        raise UserError(f"{where} holds the class number {text}; numbers below {_MAX_CLASSES} are accepted.")
    return str(int(text))


def _with_numbers(
    images: Sequence[_Sample], labels: dict[tuple[int, str], str], archives: Sequence[Tar]
) -> list[_Sample]:
    """Images joined with their class files. Of several images with one key (a.jpg, a.png) the first counts."""
    samples: dict[tuple[int, str], _Sample] = {}
    unlabelled = []
    for image in images:
        key = posixpath.splitext(image.name)[0]
        label = labels.get((image.shard, key))
        if label is None and (image.shard, _first_part(key)) in labels:
            continue  # 000.mask.png beside 000.jpg: another image of the sample
        if label is None:
            unlabelled.append(f"{archives[image.shard].path.name}:{printable(image.name)}")
        elif (image.shard, key) not in samples:
            samples[image.shard, key] = image._replace(name=key, label=label)
    lonely = [f"{archives[shard].path.name}:{printable(key)}" for shard, key in labels if (shard, key) not in samples]
    limit = max(3, int(_TOLERATED * len(images)))
    for names, what in ((unlabelled, "images have no class file"), (lonely, "class files have no image")):
        if len(names) > limit:
            raise UserError(
                f"{len(names)} {what} ({', '.join(names[:3])}, ...). An image and its class have one name: 000.jpg and "
                "000.cls. Pack the shards again."
            )
        if names:
            say(f"Left out: {len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}).")
    return list(samples.values())


def _first_part(key: str) -> str:
    folder, file = posixpath.split(key)
    return posixpath.join(folder, file.split(".", 1)[0])


def _numbered_classes(
    samples: Sequence[_Sample], folder: Path, keys: Sequence[str] | None, archives: Sequence[Tar]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(keys, display names) of integer classes."""
    names = names_of_numbers(folder)
    most = max(samples, key=lambda sample: int(sample.label))
    count = int(most.label) + 1 if keys is None else len(keys)
    if names is not None and len(names) < count:
        raise UserError(
            f"{archives[most.shard].path.name}:{printable(most.name)} is of class {most.label}, but classes.txt in (or "
            f"above) {folder} names {len(names)} classes only: one line for each is needed, the first for class 0."
        )
    count = count if names is None or keys is not None else len(names)
    numbers = tuple(str(i) for i in range(count))
    return numbers, numbers if names is None else names[:count]


def find_shards(folder: Path) -> list[Path]:
    """The tar files directly in a folder, sorted by name; hidden ones are passed over."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.name.lower().endswith(SHARD_SUFFIXES) and not path.name.startswith(".") and path.is_file()
    )


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths[:3]) + (", ..." if len(paths) > 3 else "")
