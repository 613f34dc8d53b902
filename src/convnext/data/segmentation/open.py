"""A path to pictures with label maps, whatever their layout -> training and validation sources.

What is accepted, tried in this order:

    a mapping file (JSON: `labels.json` in FOLDER, or named by --labels), which says what values or colours mean
                                                (`palette.read_mapping`) and, where they are called otherwise than
                                                below, which folders hold the pictures and the label maps:
                                                "train": {"images": "leftImg8bit/train", "labels": "gtFine/train"}, the
                                                same for "val", and "suffix", what is added to the names of label maps
    FOLDER/images/training, annotations/training, the same for validation       ADE20K's: value 0 is no class
    FOLDER/images/train, annotations/train, the same for val                    values are classes, named in their order
                                                by classes.txt in FOLDER or above it; without it each value is a class
    FOLDER/images, annotations                  the same, a share of it held out

`annotations` may be called `labels` or `masks`, and the validation part `valid` or `test`. A label map has its
picture's name and lies at the same place below its folder.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convnext.core.errors import UserError, nearest
from convnext.data.problems import Problems
from convnext.data.segmentation.label_maps import LABEL_SUFFIXES, LabelMapDataset
from convnext.data.segmentation.palette import Palette, ade20k, read_mapping, read_names
from convnext.data.segmentation.validate import Pairs, as_recorded, checked, matched
from convnext.data.splits import Splits, drawn_splits, given_splits, random_split

SegmentationSplits = Splits[LabelMapDataset]
"""Pictures with label maps, ready for training."""

LAYOUT = """Accepted are pictures with label maps of the same names, as one of:

    {root}/images/train/..., {root}/annotations/train/...   (and the same for val)
    {root}/images/..., {root}/annotations/...

with the classes' names in {root}/classes.txt, or a mapping file (--labels).
"""
_IMAGES = ("images", "imgs", "JPEGImages")
_LABELS = ("annotations", "labels", "masks", "SegmentationClass")
_TRAIN = ("training", "train")
_VAL = ("validation", "val", "valid", "test")  # in this order of preference
_MAPPING, _NAMES = "labels.json", "classes.txt"


@dataclass(frozen=True)
class _Part:
    """Pictures and their label maps."""

    name: str
    images: Path
    labels: Path
    suffix: str = ""


@dataclass(frozen=True)
class _Layout:
    train: _Part | None
    val: _Part | None
    palette: Palette | None
    """None: the values that occur are the classes."""
    notes: tuple[str, ...] = ()
    """Where the classes' names were found, where that is not in the data's folder."""


def looks_like_label_maps(data: str | Path, labels: str = "") -> bool:
    """Whether a path looks like pictures with label maps, in one of the layouts above. Nothing but names is read."""
    path = Path(data)
    if labels or not path.is_dir():
        return bool(labels)
    if (path / _MAPPING).is_file():
        return True
    train, val = _standard(path)
    return train is not None or val is not None


def open_label_maps(
    data: str | Path,
    *,
    labels: str,
    val_fraction: float,
    seed: int,
    max_pixels: int,
    skip_bad: bool,
    split: dict[str, Any] | None = None,
) -> SegmentationSplits:
    """Opens pictures with label maps for training; the top of this file lists what is accepted.

    labels: a mapping file; empty: what the data says itself. val_fraction, seed, split: as in `scenes.open_coco`; a
    saved split also says what looking all label maps through told, which then is not done again. skip_bad: leave out
    pairs that something is wrong with, instead of refusing them all.

    Raises UserError saying what was found and what to do, for a layout that is not accepted, and for pairs that
    something is wrong with: all of them in one summary.
    """
    layout = _layout(data, labels)
    if layout.train is None:
        assert layout.val is not None
        raise UserError(f"{data} has a '{layout.val.name}' part but no 'train' part. Add one beside it.")
    parts = [part for part in (layout.train, layout.val) if part is not None]
    pairs = [Pairs(part.images, part.labels, part.suffix) for part in parts]
    record, where = (split or {}).get("looked"), Path(data)
    if record is None:
        looked = checked(pairs, layout.palette, where=where, max_pixels=max_pixels, skip_bad=skip_bad)
    else:  # a run that goes on, or is judged: what was told at its start still holds
        looked = as_recorded(pairs, layout.palette, record, where=where, max_pixels=max_pixels)
    first, found = looked.sources[0], looked.words
    if layout.val is None:
        opened = drawn_splits(first, split, data, found=found, seed=seed, fraction=val_fraction)
    else:
        val, name = looked.sources[1], layout.val.name
        opened = given_splits(first, val, name, split, found=found, seed=seed, fraction=val_fraction)
    note = "\n".join([opened.note, *layout.notes, *looked.notes])
    return replace(opened, note=note, split=opened.split | {"looked": looked.record})


def open_label_maps_for_evaluation(
    data: str | Path, *, labels: str, max_pixels: int, skip_bad: bool
) -> LabelMapDataset:
    """The pictures to evaluate on: the validation part where the data has one, else all. Raises UserError as above."""
    layout = _layout(data, labels)
    part = layout.val or layout.train
    assert part is not None
    pairs = [Pairs(part.images, part.labels, part.suffix)]
    return checked(pairs, layout.palette, where=Path(data), max_pixels=max_pixels, skip_bad=skip_bad).sources[0]


def num_pictures(data: str | Path, *, labels: str, val_fraction: float) -> int:
    """How many pictures there are to train on, by their names alone: none is read. Raises UserError as above."""
    layout = _layout(data, labels)
    part = layout.train or layout.val
    assert part is not None
    pairs = matched(Pairs(part.images, part.labels, part.suffix), Problems(Path(data)))
    if layout.val is not None:
        return len(pairs)
    return len(random_split(len(pairs), fraction=val_fraction, seed=0)[0])


def _layout(data: str | Path, labels: str) -> _Layout:
    path = Path(data)
    if not path.is_dir():
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        what = "is no folder." if path.exists() else f"is not there.{nearest(path.name, beside)}"
        raise UserError(f"{path} {what} {LAYOUT.format(root=path)}")
    mapping = Path(labels) if labels else path / _MAPPING
    palette, content = read_mapping(mapping) if labels or mapping.is_file() else (None, {})
    train, val = (_given_part(content, name, path, mapping) for name in ("train", "val"))
    if train is None and val is None:
        train, val = _standard(path, _suffix(content, mapping))
    if train is None and val is None:
        raise UserError(f"{path} holds no label maps. {LAYOUT.format(root=path)}")
    if palette is not None:
        return _Layout(train, val, palette)
    part, above = train or val, path.resolve().parent / _NAMES
    if (path / _NAMES).is_file():
        return _Layout(train, val, read_names(path / _NAMES))
    if part is not None and part.name in (_TRAIN[0], _VAL[0]) and part.labels.parent.name == _LABELS[0]:
        return _Layout(train, val, ade20k())
    if above.is_file():
        return _Layout(train, val, read_names(above), (f"The classes' names are those of {above}.",))
    return _Layout(train, val, None)


def _given_part(content: Any, name: str, root: Path, mapping: Path) -> _Part | None:
    """A part whose folders the mapping file names, inside of the data's folder."""
    part = content.get(name)
    if part is None:
        return None
    folders = {kind: part.get(kind) if isinstance(part, dict) else None for kind in ("images", "labels")}
    for kind, folder in folders.items():
        if not isinstance(folder, str) or not folder or "\0" in folder:
            given = json.dumps(part)[:80]
            raise UserError(f'{mapping}: "{name}" is {{"images": folder, "labels": folder}}, not {given}.')
        inside = (root / folder).resolve()
        if not inside.is_relative_to(root.resolve()):
            raise UserError(f"{mapping}: the {kind} of '{name}' lie outside of {root}: {folder!r}.")
        if not inside.is_dir():
            raise UserError(f"{mapping}: there is no folder {root / folder}, where the {kind} of '{name}' should be.")
    return _Part(name, root / str(folders["images"]), root / str(folders["labels"]), _suffix(content, mapping))


def _suffix(content: Any, mapping: Path) -> str:
    suffix = content.get("suffix", "")
    if not isinstance(suffix, str) or "/" in suffix or "\\" in suffix or "\0" in suffix:
        raise UserError(f'{mapping}: "suffix" is what is added to the names of label maps, as "_labels".')
    return suffix


def _standard(path: Path, suffix: str = "") -> tuple[_Part | None, _Part | None]:
    """The training and validation parts of the layouts without a mapping file."""
    for images in (path / name for name in _IMAGES):
        for labels in (path / name for name in _LABELS):
            if not (images.is_dir() and labels.is_dir()):
                continue
            train, val = (_named_part(images, labels, names, suffix) for names in (_TRAIN, _VAL))
            if train is not None or val is not None:
                return train, val
            if _has_maps(labels):
                return _Part("train", images, labels, suffix), None
    return None, None


def _named_part(images: Path, labels: Path, names: tuple[str, ...], suffix: str) -> _Part | None:
    for name in names:
        if (images / name).is_dir() and (labels / name).is_dir() and _has_maps(labels / name):
            return _Part(name, images / name, labels / name, suffix)
    return None


def _has_maps(folder: Path) -> bool:
    """Whether there is a label map somewhere in a folder."""
    return any(file.suffix.lower() in LABEL_SUFFIXES for file in folder.rglob("*"))
