"""A path to the images, whatever their layout -> training and validation sources, and a record of what was held out.

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
from typing import Any

import torch
from torch import Tensor

from convnext.core.errors import UserError, nearest
from convnext.data.classification.dataset import ClassificationDataset, Subset
from convnext.data.classification.digits import DigitsDataset
from convnext.data.classification.folder import FolderDataset
from convnext.data.classification.scan import LAYOUT, class_folders, holds_images
from convnext.data.classification.shards import SHARD_SUFFIXES, ShardDataset, find_shards
from convnext.data.splits import restored, same_parts, stratified_split

_TRAIN = ("train", "training")
_VAL = ("val", "valid", "validation", "test")  # in this order of preference


@dataclass(frozen=True)
class ClassificationSplits:
    """A data set, ready for training."""

    train: ClassificationDataset
    val: ClassificationDataset
    held_out: bool
    """False where no image could be held out: `val` is `train` then, and figures say how well it was memorised."""
    note: str
    """One or two sentences for people: what was found, how it was split."""
    split: dict[str, Any]
    """{"seed", "fraction", "kind": "given" | "stratified" | "none", "val": [names]}, to be saved as JSON."""


_Part = Callable[[Sequence[str] | None], ClassificationDataset]
"""Opens one part of the data, given the classes it must keep to (None: those found)."""


@dataclass(frozen=True)
class _Layout:
    what: str  # for the note: "class folders", "2 shards"
    train: _Part | None
    val: _Part | None
    val_name: str = ""


def open_classification(
    data: str | Path, *, val_fraction: float, seed: int, max_pixels: int, split: dict[str, Any] | None = None
) -> ClassificationSplits:
    """Opens a data set for training; the top of this file lists what is accepted.

    val_fraction: share of each class held out where the data has no validation part (0: none). The same seed and data
    hold out the same images. split: a record saved by an earlier call; exactly its images are held out again, and
    val_fraction and seed are not looked at.

    Raises UserError saying what was found and what to do, for a layout that is not accepted, fewer than two classes, a
    validation class that training does not have, or images of `split` that are no longer there.
    """
    layout = _layout(data, max_pixels)
    if layout.train is None:
        raise UserError(f"{data} has a '{layout.val_name}' part but no 'train' part. Add a folder 'train' beside it.")
    train = layout.train(None)
    _check_classes(train, data)
    if layout.val is not None:
        val = layout.val(train.class_dirs)
        return _given(train, val, layout, split, seed=seed, fraction=val_fraction)
    if split is not None:
        kept, held = restored(train, split, data)
        seed, val_fraction = split["seed"], split["fraction"]
    else:
        kept, held = stratified_split(train.targets, fraction=val_fraction, seed=seed)
    return _split(train, kept, held, layout, seed=seed, fraction=val_fraction)


def open_classification_for_evaluation(data: str | Path, *, max_pixels: int) -> ClassificationDataset:
    """The images to evaluate on: the validation part where the data has one, else all of it.

    A part that lacks classes of the training part keeps their order, so `classes` agrees with that of `open_classification`.
    Raises UserError as `open_classification` does, but a single class is accepted.
    """
    layout = _layout(data, max_pixels)
    if layout.val is None:
        assert layout.train is not None
        return layout.train(None)
    return layout.val(layout.train(None).class_dirs if layout.train is not None else None)


def _given(
    train: ClassificationDataset,
    val: ClassificationDataset,
    layout: _Layout,
    split: dict[str, Any] | None,
    *,
    seed: int,
    fraction: float,
) -> ClassificationSplits:
    if split is not None:
        same_parts(split, layout.val_name)
        _, held = restored(val, split, layout.val_name)
        val = val if len(held) == len(val) else Subset(val, held)
    note = f"Found {layout.what}: {_counted(train)} to train on, {len(val):,} in '{layout.val_name}' to validate on."
    if layout.val_name.startswith("test"):
        note += " There is no 'val', so the test images choose the best model: its figures on them flatter a little."
    names = [val.name(i) for i in range(len(val))]
    return ClassificationSplits(
        train, val, True, note, {"seed": seed, "fraction": fraction, "kind": "given", "val": names}
    )


def _split(
    source: ClassificationDataset, kept: Tensor, held: Tensor, layout: _Layout, *, seed: int, fraction: float
) -> ClassificationSplits:
    record: dict[str, Any] = {"seed": seed, "fraction": fraction, "kind": "none", "val": []}
    if not len(held):
        why = "none was to be held out" if fraction == 0 else "every class has a single image, so none can be held out"
        note = f"Found {layout.what}: {_counted(source)}; {why}. All figures are on the training images themselves."
        return ClassificationSplits(source, source, False, note, record)
    names = [source.name(i) for i in held.tolist()]
    record |= {"kind": "stratified", "val": names}
    note = (
        f"Found {layout.what}: {_counted(source)}; {len(held):,} of them, some of each class, are held out to validate "
        f"on (seed {seed})."
    )
    return ClassificationSplits(Subset(source, kept), Subset(source, held), True, note, record)


def _check_classes(source: ClassificationDataset, data: str | Path) -> None:
    if len(torch.unique(source.targets)) > 1:
        return
    only = source.class_dirs[int(source.targets[0])]
    inner = Path(data) / only
    hint = ""
    if inner.is_dir() and len(class_folders(inner)) > 1:
        hint = f" Its folders look like classes: give {inner} instead."
    raise UserError(f"{data} has a single class, '{only}'; a classifier needs at least two.{hint}")


def _layout(data: str | Path, max_pixels: int) -> _Layout:
    path = Path(data)
    if str(data) == "digits":
        return _Layout("scikit-learn's handwritten digits", lambda keys: DigitsDataset(), None)
    if not path.exists():
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"There is no {path}.{nearest(path.name, beside)} A folder of images, or 'digits', is needed.")
    if path.is_file():
        if not path.name.lower().endswith(SHARD_SUFFIXES):
            raise UserError(
                f"{path} is a file. Accepted are folders, .tar and .tar.gz; unpack other archives first. "
                f"{LAYOUT.format(root=path.with_suffix(''))}"
            )
        return _Layout("one shard", _shards([path], max_pixels), None)
    folders, shards = class_folders(path), find_shards(path)
    train, val = _first(_TRAIN, path), _first(_VAL, path)
    if train or (val and set(folders) <= set(_VAL)):
        return _parts(path, train, val, max_pixels)
    # a shard unpacked beside itself makes one folder; two or more with images are the classes
    if shards and len([folder for folder in folders if holds_images(path, folder)]) < 2:
        return _shard_parts(path, shards, max_pixels)
    return _Layout("class folders", _folder(path, max_pixels), None)


def _parts(path: Path, train: str, val: str, max_pixels: int) -> _Layout:
    """FOLDER/train and FOLDER/val: of class folders, or of shards."""

    def part(name: str) -> _Part | None:
        if not name:
            return None
        shards = find_shards(path / name)
        return _shards(shards, max_pixels) if shards else _folder(path / name, max_pixels, prefix=f"{name}/")

    what = " and ".join(f"'{name}'" for name in (train, val) if name)
    return _Layout(what, part(train), part(val), val)


def _shard_parts(path: Path, shards: Sequence[Path], max_pixels: int) -> _Layout:
    """Shards in one folder: two parts where their names say "train" and "val", as one word of the name."""
    words = {shard: set(re.split(r"[^a-z]+", shard.name.lower())) for shard in shards}
    train = [shard for shard in shards if words[shard] & set(_TRAIN)]
    name = next((name for name in _VAL if any(name in words[shard] for shard in shards)), "")
    val = [shard for shard in shards if name in words[shard] and shard not in train]
    if not train or not val:
        what = "one shard" if len(shards) == 1 else f"{len(shards)} shards"
        return _Layout(what, _shards(shards, max_pixels), None)
    others = [shard.name for shard in shards if not words[shard] & {*_TRAIN, *_VAL}]
    if others:
        raise UserError(
            f"{path} has shards named 'train' and '{name}', and {', '.join(others[:3])}, which say neither. Rename "
            "or move those."
        )
    return _Layout(f"{len(train) + len(val)} shards", _shards(train, max_pixels), _shards(val, max_pixels), name)


def _folder(path: Path, max_pixels: int, prefix: str = "") -> _Part:
    def part(keys: Sequence[str] | None) -> ClassificationDataset:
        return FolderDataset(path, max_pixels=max_pixels, class_dirs=keys, prefix=prefix)

    return part


def _shards(paths: Sequence[Path], max_pixels: int) -> _Part:
    def part(keys: Sequence[str] | None) -> ClassificationDataset:
        return ShardDataset(paths, max_pixels=max_pixels, keys=keys)

    return part


def _first(names: Sequence[str], path: Path) -> str:
    """The first of the names that is a part of the data in `path`; a class can be called "train" too, but holds images
    rather than folders or shards."""
    parts = (name for name in names if (path / name).is_dir())
    return next((name for name in parts if class_folders(path / name) or find_shards(path / name)), "")


def _counted(source: ClassificationDataset) -> str:
    return f"{len(source):,} images of {len(source.classes):,} classes"
