"""Images with a class each, whatever their layout: a path -> training and validation parts.

What is accepted, tried in this order:

    digits                         the word: scikit-learn's handwritten digits
    FILE.tar, FILE.tar.gz          one shard
    FOLDER/train + FOLDER/val      each with class folders, or each with shards (ImageNet's layout)
    FOLDER/<class>/...             class folders
    FOLDER/*.tar                   shards; names with the word "train" and with "val" are the two parts

"valid" and "validation" mean val. Where there is a "test" and none of these, the test part is used as validation part:
people who have train and test only want the figures of the test images; the note says so.
Without a validation part, a share of each class is held out of the training images.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from convnext.core.errors import UserError, nearest
from convnext.core.text import printable
from convnext.data.classification.dataset import ClassificationDataset, Subset, class_dirs
from convnext.data.classification.digits import DigitsDataset
from convnext.data.classification.folder import FolderDataset
from convnext.data.classification.scan import LAYOUT, class_folders, holds_images, no_classes, some
from convnext.data.classification.shards import SHARD_SUFFIXES, ShardDataset, find_shards
from convnext.data.config import LoaderConfig
from convnext.data.recognise import Mine, Nearly, NotMine, Verdict
from convnext.data.splits import Record, Splits, drawn_splits, given_splits

_TRAIN = ("train", "training")
_VAL = ("val", "valid", "validation", "test")  # in this order of preference
_PART = re.compile(r"(train|training|val|valid|validation|test|testing)\d*")  # names of parts, not of classes
_IMAGE_FOLDERS = {"images", "image", "imgs", "img", "jpegimages"}
_LABEL_FOLDERS = {"annotations", "labels", "label", "masks", "mask", "segmentationclass"}


_Part = Callable[[Sequence[str] | None, int], ClassificationDataset]
"""Opens one part of the data, given the classes it must keep to (None: those found) and the most pixels of an image."""


@dataclass(frozen=True)
class _Layout:
    what: str  # for the note: "class folders", "2 shards"
    train: _Part | None
    val: _Part | None
    val_name: str = ""


class ClassificationData:
    """A data set of images with a class each (`DataModule`); the top of this file lists what is accepted.

    Raises UserError saying what was found and what to do, for a layout that is not accepted; the parts raise it, when
    they are read, for fewer than two classes and a validation class that training does not have.
    """

    def __init__(self, data: str | Path) -> None:
        self.data = data
        self._layout = _layout(data)
        self._parts: dict[tuple[str, int], ClassificationDataset] = {}

    def splits(self, loader: LoaderConfig, *, seed: int, saved: Record | None = None) -> Splits[ClassificationDataset]:
        """As `DataModule.splits`: the data's own parts, or a share of each class held out."""
        layout, limit = self._layout, loader.max_pixels
        if layout.train is None:
            what = f"{self.data} has a '{layout.val_name}' part but no 'train' part."
            raise UserError(f"{what} Add a folder 'train' beside it.")
        if layout.val is not None:
            return given_splits(
                lambda: self._train(limit),
                lambda: self._val(limit),
                layout.val_name,
                saved,
                found=lambda train: f"{layout.what}: {_counted(train)}",
                seed=seed,
                fraction=loader.val_fraction,
            )
        whole = self._train(limit)
        return drawn_splits(
            whole,
            saved,
            self.data,
            found=f"{layout.what}: {_counted(whole)}",
            seed=seed,
            fraction=loader.val_fraction,
            targets=whole.targets,
        )

    def for_evaluation(self, loader: LoaderConfig) -> ClassificationDataset:
        """As `DataModule.for_evaluation`; a single class is accepted.

        A part that lacks classes of the training part keeps their order, so `classes` agrees with that of `splits`.
        """
        if self._layout.val is None:
            return self._read("train", None, loader.max_pixels)
        return self._val(loader.max_pixels)

    def _train(self, max_pixels: int) -> ClassificationDataset:
        train = self._read("train", None, max_pixels)
        _check_classes(train, self.data)
        return train

    def _val(self, max_pixels: int) -> ClassificationDataset:
        known = None if self._layout.train is None else class_dirs(self._read("train", None, max_pixels))
        return self._read("val", known, max_pixels)

    def _read(self, name: str, known: Sequence[str] | None, max_pixels: int) -> ClassificationDataset:
        if (name, max_pixels) not in self._parts:
            part = self._layout.train if name == "train" else self._layout.val
            assert part is not None
            dataset = part(known, max_pixels)
            self._parts[name, max_pixels] = Subset(dataset, range(len(dataset)))
        return self._parts[name, max_pixels]


def recognise(data: str) -> Verdict:
    """Whether a path holds images with a class each, by the names in it."""
    path = Path(data)
    if data == "digits" and not path.exists():
        return Mine("the word digits means scikit-learn's handwritten digits")
    if path.is_file():
        return Mine("it is a tar file") if path.name.lower().endswith(SHARD_SUFFIXES) else NotMine()
    if not path.is_dir():
        return NotMine()
    if find_shards(path) or any(find_shards(path / part) for part in (*_TRAIN, *_VAL) if (path / part).is_dir()):
        return Mine("it holds tar files")
    train, val = _first(_TRAIN, path), _first(_VAL, path)
    roots = [path / part for part in (train, val) if part] or [path]
    folders = [folder for folder in class_folders(roots[0]) if holds_images(roots[0], folder)]
    lower = {folder.lower() for folder in folders}
    if lower & _IMAGE_FOLDERS and {folder.lower() for folder in class_folders(roots[0])} & _LABEL_FOLDERS:
        return NotMine()  # images and what they are labelled with, not two classes
    if folders and all(_PART.fullmatch(folder) for folder in lower):
        return NotMine() if len(folders) > 1 else Nearly(_single_class(folders[0], roots[0]))
    if len(folders) > 1:
        return Mine(f"{some(folders)} hold images, a class each")
    if lower - _IMAGE_FOLDERS:
        return Nearly(_single_class(folders[0], roots[0]))
    return Nearly(no_classes(path)) if not class_folders(path) else NotMine()


def _single_class(only: str, root: Path) -> str:
    return f"{root} has a single class, '{printable(only)}'; a classifier needs at least two.{_inner_hint(root / only)}"


def _inner_hint(inner: Path) -> str:
    looks_right = inner.is_dir() and len(class_folders(inner)) > 1
    return f" Its folders look like classes: give {inner} instead." if looks_right else ""


def _check_classes(dataset: ClassificationDataset, data: str | Path) -> None:
    if len(torch.unique(dataset.targets)) > 1:
        return
    only = class_dirs(dataset)[int(dataset.targets[0])]
    hint = _inner_hint(Path(data) / only)
    raise UserError(f"{data} has a single class, '{only}'; a classifier needs at least two.{hint}")


def _layout(data: str | Path) -> _Layout:
    path = Path(data)
    if str(data) == "digits":
        return _Layout("scikit-learn's handwritten digits", lambda keys, limit: DigitsDataset(), None)
    if not path.exists():
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"There is no {path}.{nearest(path.name, beside)} A folder of images, or 'digits', is needed.")
    if path.is_file():
        if not path.name.lower().endswith(SHARD_SUFFIXES):
            raise UserError(
                f"{path} is a file. Accepted are folders, .tar and .tar.gz; unpack other archives first. "
                f"{LAYOUT.format(root=path.with_suffix(''))}"
            )
        return _Layout("one shard", _shards([path]), None)
    folders, shards = class_folders(path), find_shards(path)
    train, val = _first(_TRAIN, path), _first(_VAL, path)
    if train or (val and set(folders) <= set(_VAL)):
        return _parts(path, train, val)
    # a shard unpacked beside itself makes one folder; two or more with images are the classes
    if shards and len([folder for folder in folders if holds_images(path, folder)]) < 2:
        return _shard_parts(path, shards)
    return _Layout("class folders", _folder(path), None)


def _parts(path: Path, train: str, val: str) -> _Layout:
    """FOLDER/train and FOLDER/val: of class folders, or of shards."""

    def part(name: str) -> _Part | None:
        if not name:
            return None
        shards = find_shards(path / name)
        return _shards(shards) if shards else _folder(path / name, prefix=f"{name}/")

    what = " and ".join(f"'{name}'" for name in (train, val) if name)
    return _Layout(what, part(train), part(val), val)


def _shard_parts(path: Path, shards: Sequence[Path]) -> _Layout:
    """Shards in one folder: two parts where their names say "train" and "val", as one word of the name."""
    words = {shard: set(re.split(r"[^a-z]+", shard.name.lower())) for shard in shards}
    train = [shard for shard in shards if words[shard] & set(_TRAIN)]
    name = next((name for name in _VAL if any(name in words[shard] for shard in shards)), "")
    val = [shard for shard in shards if name in words[shard] and shard not in train]
    if not train or not val:
        what = "one shard" if len(shards) == 1 else f"{len(shards)} shards"
        return _Layout(what, _shards(shards), None)
    others = [shard.name for shard in shards if not words[shard] & {*_TRAIN, *_VAL}]
    if others:
        raise UserError(
            f"{path} has shards named 'train' and '{name}', and {', '.join(others[:3])}, which say neither. Rename "
            "or move those."
        )
    return _Layout(f"{len(train) + len(val)} shards", _shards(train), _shards(val), name)


def _folder(path: Path, prefix: str = "") -> _Part:
    def part(known: Sequence[str] | None, max_pixels: int) -> ClassificationDataset:
        return FolderDataset(path, max_pixels=max_pixels, class_dirs=known, prefix=prefix)

    return part


def _shards(paths: Sequence[Path]) -> _Part:
    def part(known: Sequence[str] | None, max_pixels: int) -> ClassificationDataset:
        return ShardDataset(paths, max_pixels=max_pixels, keys=known)

    return part


def _first(names: Sequence[str], path: Path) -> str:
    """The first of the names that is a part of the data in `path`; a class can be called "train" too, but holds images
    rather than folders or shards."""
    parts = (name for name in names if (path / name).is_dir())
    return next((name for name in parts if class_folders(path / name) or find_shards(path / name)), "")


def _counted(dataset: ClassificationDataset) -> str:
    return f"{len(dataset):,} images of {len(dataset.classes):,} classes"
