"""Images with a class each, opened: training and validation parts (`layout` says what is accepted).

Where there is a "test" part and no "val", the test part is used as validation part: people who have train and test only
want the figures of the test images; the note says so. Without a validation part, a share of each class is held out of
the training images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from convnext.core.console import few
from convnext.core.errors import UserError
from convnext.core.text import printable
from convnext.data.classification.columns import objects_text, of_objects
from convnext.data.classification.config import AS_FOUND, TableConfig
from convnext.data.classification.dataset import (
    ClassificationDataset,
    Subset,
    class_dirs,
    images_of_each,
    several_labels,
)
from convnext.data.classification.layout import Reading, find_layout
from convnext.data.classification.scan import class_folders, holds_images, no_classes, some
from convnext.data.classification.shard_index import SHARD_SUFFIXES, find_shards
from convnext.data.classification.table import is_table
from convnext.data.classification.tables import find_tables
from convnext.data.config import LoaderConfig
from convnext.data.parts import images_with_labels, parts_among
from convnext.data.recognise import Mine, Nearly, NotMine, Verdict
from convnext.data.splits import Record, Splits, drawn_splits, given_splits, the_part, with_notes

_IMAGE_FOLDERS = {"images", "image", "imgs", "img", "jpegimages"}


class ClassificationData:
    """A data set of images with a class each (`DataModule`).

    folders: "classes" takes every folder for a class, whatever its name; "auto" knows parts by their names. table: how
    tables of images and labels are read.

    Raises UserError saying what was found and what to do, for a layout that is not accepted; the parts raise it, when
    they are read, for fewer than two classes and a validation class that training does not have.
    """

    def __init__(self, data: str | Path, *, folders: str = "auto", table: TableConfig = AS_FOUND) -> None:
        self.data = data
        self._layout = find_layout(data, folders=folders, table=table)
        self._parts: dict[tuple[str, Reading], ClassificationDataset] = {}
        self._notes: dict[str, None] = dict.fromkeys(self._layout.notes)  # in order, each once

    def splits(self, loader: LoaderConfig, *, seed: int, saved: Record | None = None) -> Splits[ClassificationDataset]:
        """As `DataModule.splits`: the data's own parts, or a share of each class held out."""
        return with_notes(
            self._splits(loader, seed, saved), lambda train, val: [*self._notes, *self._unused(), *_lacking(train, val)]
        )

    def _splits(self, loader: LoaderConfig, seed: int, saved: Record | None) -> Splits[ClassificationDataset]:
        layout, reading = self._layout, _reading(loader)
        if "train" not in layout.parts:
            what = f"{self.data} has a '{next(iter(layout.names.values()))}' part but no 'train' part."
            raise UserError(f"{what} Add a folder 'train' beside it.")
        if val := self._val_part:
            return given_splits(
                lambda: self._train(reading),
                lambda: self._val(val, reading),
                layout.names[val],
                saved,
                found=lambda train: f"{layout.what}: {_counted(train)}",
                seed=seed,
                fraction=loader.val_fraction,
                is_test=val == "test",
            )
        whole = self._train(reading)
        return drawn_splits(
            whole,
            saved,
            self.data,
            found=f"{layout.what}: {_counted(whole)}",
            seed=seed,
            fraction=loader.val_fraction,
            targets=None if several_labels(whole) else whole.targets,
            present=whole.targets > 0 if several_labels(whole) else None,
        )

    def for_evaluation(self, loader: LoaderConfig, split: str = "") -> ClassificationDataset:
        """As `DataModule.for_evaluation`; a single class is accepted.

        A part that lacks classes of the training part keeps their order, so `classes` agrees with that of `splits`.
        """
        reading = _reading(loader)
        if split:
            the_part(split, self._layout.parts, self.data)
        part = split or self._val_part or "train"
        return self._read(part, None, reading) if part == "train" else self._val(part, reading)

    @property
    def _val_part(self) -> str:
        return next((part for part in ("val", "test") if part in self._layout.parts), "")

    def _unused(self) -> list[str]:
        unused = [self._layout.names[part] for part in self._layout.parts if part not in ("train", self._val_part)]
        return [f"Not used: '{printable(name)}'." for name in unused]

    def _train(self, reading: Reading) -> ClassificationDataset:
        train = self._read("train", None, reading)
        _check_classes(train, self.data)
        return train

    def _val(self, part: str, reading: Reading) -> ClassificationDataset:
        known = class_dirs(self._read("train", None, reading)) if "train" in self._layout.parts else None
        return self._read(part, known, reading)

    def _read(self, name: str, known: Sequence[str] | None, reading: Reading) -> ClassificationDataset:
        if (name, reading) not in self._parts:
            dataset = self._layout.parts[name](known, reading)
            self._notes |= dict.fromkeys(getattr(dataset, "notes", ()))
            self._parts[name, reading] = Subset(dataset, range(len(dataset)))
        return self._parts[name, reading]


def recognise(data: str, *, folders: str = "auto", table: TableConfig = AS_FOUND) -> Verdict:
    """Whether a path holds images with a class each (or several labels), by the names in it, or by a table."""
    path = Path(data)
    if data == "digits" and not path.exists():
        return Mine("the word digits means scikit-learn's handwritten digits")
    if not path.is_dir():
        return _of_file(path, table)
    if find_shards(path):
        return Mine("it holds tar files")
    if folders == "classes":
        return Mine("every folder is said to be a class")
    if not isinstance(verdict := _of_table(path, table), NotMine):
        return verdict
    top = class_folders(path)
    parts = [name for of_part in parts_among(top).values() for name in of_part]
    if any(find_shards(path / part) for part in parts):
        return Mine("it holds tar files")
    of_classes = [part for part in parts if class_folders(path / part)]
    root = path / of_classes[0] if of_classes else path
    folders_there = class_folders(root)
    holding = [folder for folder in folders_there if holds_images(root, folder)]
    lower = {folder.lower() for folder in holding}
    if images_with_labels(folders_there):
        return NotMine()  # images and what they are labelled with, not two classes
    if holding and set(holding) <= {name for of_part in parts_among(holding).values() for name in of_part}:
        return NotMine() if len(holding) > 1 else Nearly(_single_class(holding[0], root))
    if len(holding) == 2 and (images := [folder for folder in holding if folder.lower() in _IMAGE_FOLDERS]):
        return Nearly(_images_beside(path, images[0], next(folder for folder in holding if folder != images[0])))
    if len(holding) > 1:
        return Mine(f"{some(holding)} hold images, a class each")
    if lower - _IMAGE_FOLDERS:
        return Nearly(_single_class(holding[0], root))
    return Nearly(no_classes(path)) if not top else NotMine()


def _of_file(path: Path, table: TableConfig) -> Verdict:
    if path.is_file() and is_table(path):
        return _of_table(path, table)
    return Mine("it is a tar file") if path.is_file() and path.name.lower().endswith(SHARD_SUFFIXES) else NotMine()


def _of_table(path: Path, config: TableConfig) -> Verdict:
    """Whether a path holds a table of images and labels (or names of files that say the class)."""
    try:
        found = find_tables(path, config)
        if found is not None and not found.said and config == AS_FOUND:
            objects = next((name for table in found.tables.values() if (name := of_objects(table))), "")
            if objects and path.is_dir():
                return Nearly(objects_text(path, objects))
        if found is not None:
            found.reader(config)  # asks where the columns do not say which is which
    except UserError as error:
        return Nearly(str(error))
    if found is None:
        return NotMine()
    return Mine("the names of the files start with a class" if found.said else f"{found.what} lists images with labels")


def _images_beside(path: Path, images: str, other: str) -> str:
    return (
        f"{path} holds {printable(images)}/ and {printable(other)}/. Where {printable(other)}/ holds label maps, call "
        "it masks; where both are classes, say --folders classes."
    )


def _single_class(only: str, root: Path) -> str:
    return f"{root} has a single class, '{printable(only)}'; a classifier needs at least two.{_inner_hint(root / only)}"


def _inner_hint(inner: Path) -> str:
    looks_right = inner.is_dir() and len(class_folders(inner)) > 1
    return f" Its folders look like the classes, or the parts: give {inner} instead." if looks_right else ""


def _check_classes(dataset: ClassificationDataset, data: str | Path) -> None:
    if several_labels(dataset):
        if not bool((dataset.targets > 0).any()):
            raise UserError(f"{data} has no image with a label.")
        return
    if len(torch.unique(dataset.targets)) > 1:
        return
    only = class_dirs(dataset)[int(dataset.targets[0])]
    hint = _inner_hint(Path(data) / only)
    raise UserError(f"{data} has a single class, '{only}'; a classifier needs at least two.{hint}")


def _lacking(train: ClassificationDataset, val: ClassificationDataset) -> list[str]:
    """Labels that one of the parts has no image of: they cannot be judged, or not learned."""
    if not several_labels(train):
        return []
    notes = []
    for part, what in ((val, "no held-out image has"), (train, "no training image has")):
        names = [train.classes[k] for k in (images_of_each(part) == 0).nonzero().flatten().tolist()]
        if names:
            notes.append(f"Labels that {what}: {few([printable(name) for name in names])}.")
    return notes


def _reading(loader: LoaderConfig) -> Reading:
    return Reading(loader.max_pixels, loader.bands, loader.white, loader.skip_bad)


def _counted(dataset: ClassificationDataset) -> str:
    kind = "with labels out of" if several_labels(dataset) else "of"
    return f"{len(dataset):,} images {kind} {len(dataset.classes):,}{'' if several_labels(dataset) else ' classes'}"
