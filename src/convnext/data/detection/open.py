"""A path to annotated images, whatever their layout -> training and validation sources of scenes.

What is accepted, tried in this order:

    FILE.json                                                   the images beside it, or in `images` beside it
    FOLDER/annotations/instances_train2017.json, ..._val2017.json     COCO's: the images in FOLDER/train2017 and
                                                                FOLDER/val2017, or in FOLDER/images/train2017, ...; the
                                                                same without the year
    FOLDER/train/_annotations.coco.json, FOLDER/valid/...       Roboflow's: the images beside the file
    FOLDER/*.json                                               exactly one of this form: as FILE.json

Without a validation part, a share of the images is held out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convnext.core.errors import UserError, nearest
from convnext.data.detection.annotations import read_annotations
from convnext.data.detection.coco import CocoDataset
from convnext.data.splits import Splits, drawn_splits, given_splits

LAYOUT = """Accepted is an annotation file in COCO's form with its images, as one of:

    {root}/annotations/instances_train.json, {root}/images/train/...   (and the same for val)
    {root}/train/_annotations.coco.json, {root}/train/...              (and the same for valid)
    {root}/anything.json, {root}/images/...
"""
_ROBOFLOW = "_annotations.coco.json"
_START = 65536  # bytes; the lists of a file have begun by then
_VAL = ("valid", "val", "validation", "test")  # in this order of preference
_INSTANCES = re.compile(r"instances_(train|val)(\d*)\.json")


DetectionSplits = Splits[CocoDataset]
"""Annotated images, ready for training."""


@dataclass(frozen=True)
class _Part:
    """An annotation file and where its images may be: in the first folder that has one of them."""

    name: str
    file: Path
    folders: tuple[Path, ...]


@dataclass(frozen=True)
class _Layout:
    train: _Part | None
    val: _Part | None


def looks_like_coco(data: str | Path) -> bool:
    """Whether a path looks like annotated images in one of the layouts above: a file that ends in .json, or a folder
    with annotation files at those places. At most the first bytes of .json files are read."""
    path = Path(data)
    return path.suffix.lower() == ".json" if not path.is_dir() else _find(path) is not None


def open_coco(
    data: str | Path,
    *,
    val_fraction: float,
    seed: int,
    max_pixels: int,
    skip_bad: bool,
    split: dict[str, Any] | None = None,
) -> DetectionSplits:
    """Opens annotated images for training; the top of this file lists what is accepted.

    val_fraction: share of the images held out where the data has no validation part (0: none). The same seed and data
    hold out the same images. split: a record saved by an earlier call; exactly its images are held out again, and
    val_fraction and seed are not looked at. skip_bad: as in `annotations.read_annotations`.

    Raises UserError saying what was found and what to do, for a layout that is not accepted, files that something is
    wrong with, a validation part of other classes, or images of `split` that are no longer there.
    """
    layout = _layout(data)
    if layout.train is None:
        assert layout.val is not None
        raise UserError(f"{data} has a '{layout.val.name}' part but no 'train' part. Add one beside it.")
    train = _source(layout.train, max_pixels, skip_bad)
    if layout.val is not None:
        val = _source(layout.val, max_pixels, skip_bad)
        _check_alike(train, val)
        opened = given_splits(
            train, val, layout.val.name, split, found=_counted(train), seed=seed, fraction=val_fraction
        )
        return replace(opened, note=_with_notes(opened.note, train, val))
    opened = drawn_splits(train, split, data, found=_counted(train), seed=seed, fraction=val_fraction)
    if opened.held_out and not opened.train.counts.sum():
        raise UserError(
            "All objects are in the images that are held out. Annotate more images, or choose another seed."
        )
    return replace(opened, note=_with_notes(opened.note, train))


def open_coco_for_evaluation(data: str | Path, *, max_pixels: int, skip_bad: bool) -> CocoDataset:
    """The images to evaluate on: the validation part where the data has one, else all. Raises UserError as above."""
    layout = _layout(data)
    part = layout.val or layout.train
    assert part is not None
    return _source(part, max_pixels, skip_bad)


def _with_notes(note: str, *sources: CocoDataset) -> str:
    return "\n".join([note, *(source.file.note.rstrip() for source in sources if source.file.note)])


def _counted(source: CocoDataset) -> str:
    what = "boxes and masks" if source.has_masks else "boxes"
    return f"{len(source):,} images, {int(source.counts.sum()):,} objects of {len(source.classes):,} classes ({what})"


def _check_alike(train: CocoDataset, val: CocoDataset) -> None:
    ours = dict(zip(train.category_ids, train.classes, strict=True))
    theirs = dict(zip(val.category_ids, val.classes, strict=True))
    if ours != theirs:
        odd = next(number for number in sorted({*ours, *theirs}) if ours.get(number) != theirs.get(number))
        raise UserError(
            f"{val.file.path} has other categories than {train.file.path}: {odd} is {theirs.get(odd, 'absent')!r} "
            f"there and {ours.get(odd, 'absent')!r} here. Both need the same 'categories', with the same ids and names."
        )
    if train.has_masks != val.has_masks:
        with_masks, without = (train, val) if train.has_masks else (val, train)
        raise UserError(
            f"{with_masks.file.path} has polygons ('segmentation'), {without.file.path} has boxes alone. Give both "
            "parts polygons, or neither."
        )


def _layout(data: str | Path) -> _Layout:
    path = Path(data)
    if not path.exists():
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"There is no {path}.{nearest(path.name, beside)} {LAYOUT.format(root=path)}")
    if not path.is_dir():
        if path.suffix.lower() != ".json":
            raise UserError(f"{path} is neither a folder nor a .json file. {LAYOUT.format(root=path.parent)}")
        return _Layout(_single(path), None)
    found = _find(path)
    if found is None:
        files = sorted(entry.name for entry in path.glob("*.json"))
        several = f" It has {len(files)} .json files, {', '.join(files[:3])}; name one of them." if files else ""
        raise UserError(f"{path} holds no annotations.{several} {LAYOUT.format(root=path)}")
    return found


def _find(path: Path) -> _Layout | None:
    """The layout of a folder; None: none of those that are accepted."""
    for layout in (_official(path), _roboflow(path)):
        if layout.train is not None or layout.val is not None:
            return layout
    files = [entry for entry in path.glob("*.json") if _begins_as_coco(entry)]
    return _Layout(_single(files[0]), None) if len(files) == 1 else None


def _begins_as_coco(file: Path) -> bool:
    """Whether the first bytes have one of the words: a folder of classes can hold some other .json file."""
    try:
        with file.open("rb") as opened:
            start = opened.read(_START)
    except OSError:
        return False
    return any(f'"{word}"'.encode() in start for word in ("images", "annotations", "categories"))


def _official(path: Path) -> _Layout:
    """COCO's own layout; of several years the latest that has a training part."""
    found = {
        (match[2], match[1]): entry
        for entry in path.glob("annotations/instances_*.json")
        if (match := _INSTANCES.fullmatch(entry.name))
    }
    years = sorted({year for year, name in found if name == "train"} or {year for year, _ in found})
    if not years:
        return _Layout(None, None)

    def part(name: str) -> _Part | None:
        file, folder = found.get((years[-1], name)), f"{name}{years[-1]}"
        return None if file is None else _Part(folder, file, (path / folder, path / "images" / folder))

    return _Layout(part("train"), part("val"))


def _roboflow(path: Path) -> _Layout:
    def part(names: Sequence[str]) -> _Part | None:
        name = next((name for name in names if (path / name / _ROBOFLOW).is_file()), None)
        return None if name is None else _Part(name, path / name / _ROBOFLOW, (path / name,))

    return _Layout(part(("train", "training")), part(_VAL))


def _single(file: Path) -> _Part:
    folder = file.parent
    split = _INSTANCES.fullmatch(file.name)
    beside = (folder.parent / "images", folder.parent) if folder.name == "annotations" else ()
    own = (f"{split[1]}{split[2]}",) if split and beside else ()
    named = tuple(place / name for place in beside[::-1] for name in own)
    return _Part(file.stem, file, (*named, folder, folder / "images", *beside))


def _source(part: _Part, max_pixels: int, skip_bad: bool) -> CocoDataset:
    annotations = read_annotations(part.file, part.folders, max_pixels=max_pixels, skip_bad=skip_bad)
    return CocoDataset(annotations, max_pixels=max_pixels)
