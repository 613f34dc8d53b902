"""A path to images with label maps, whatever their layout -> training and validation parts.

What is accepted, tried in this order:

    a mapping file (JSON: `labels.json` in FOLDER, or named by --labels), which says what values or colours mean
                                                (`palette.read_mapping`) and, where they are called otherwise than
                                                below, which folders hold the images and the label maps:
                                                "train": {"images": "leftImg8bit/train", "labels": "gtFine/train"}, the
                                                same for "val", and "suffix", what is added to the names of label maps
    FOLDER/images/training, annotations/training, the same for validation       ADE20K's: value 0 is no class
    FOLDER/images/train, annotations/train, the same for val                    values are classes, named in their order
                                                by classes.txt in FOLDER or above it; without it each value is a class
    FOLDER/images, annotations                  the same, a share of it held out

`annotations` may be called `labels` or `masks`, and the validation part `valid` or `test`. A label map has its
image's name and lies at the same place below its folder.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convnext.core.errors import UserError, nearest
from convnext.data.config import LoaderConfig
from convnext.data.problems import Problems
from convnext.data.recognise import Mine, Nearly, NotMine, Verdict
from convnext.data.segmentation.label_maps import LABEL_SUFFIXES, LabelMapDataset
from convnext.data.segmentation.palette import Palette, ade20k, read_mapping, read_names
from convnext.data.segmentation.validate import Checked, Pairs, as_recorded, checked, matched
from convnext.data.splits import Record, Splits, drawn_splits, given_splits, random_split, with_notes, with_record

LAYOUT = """Accepted are images with label maps of the same names, as one of:

    {root}/images/train/..., {root}/annotations/train/...   (and the same for val)
    {root}/images/..., {root}/annotations/...

with the classes' names in {root}/classes.txt, or a mapping file (--labels).
"""
_IMAGES = ("images", "imgs", "JPEGImages")
_LABELS = ("annotations", "labels", "masks", "SegmentationClass")
_NEARLY_IMAGES = ("images", "image", "imgs", "img", "jpegimages")
_NEARLY_LABELS = ("annotations", "annotation", "labels", "label", "masks", "mask", "gt", "segmentationclass")
_TRAIN = ("training", "train")
_VAL = ("validation", "val", "valid", "test")  # in this order of preference
_MAPPING, _NAMES = "labels.json", "classes.txt"


@dataclass(frozen=True)
class _Part:
    """Images and their label maps."""

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


class SegmentationData:
    """Images with label maps (`DataModule`); the top of this file lists what is accepted. Label maps are checked once.

    labels: a mapping file; empty: what the data says itself.

    Raises UserError saying what was found and what to do, for a layout that is not accepted; the parts raise it, when
    they are asked for, for pairs that something is wrong with (unless `loader.skip_bad`): all of them in one summary.
    """

    def __init__(self, data: str | Path, *, labels: str = "") -> None:
        self.data = data
        self._layout = _layout(data, labels)
        self._checked: dict[tuple[bool, int, bool], Checked] = {}

    def splits(self, loader: LoaderConfig, *, seed: int, saved: Record | None = None) -> Splits[LabelMapDataset]:
        """As `DataModule.splits`. A saved record also holds what checking all label maps found, which then is not done
        again."""
        layout, fraction = self._layout, loader.val_fraction
        if layout.train is None:
            assert layout.val is not None
            raise UserError(f"{self.data} has a '{layout.val.name}' part but no 'train' part. Add one beside it.")
        record = (saved or {}).get("looked")
        if record is None:
            found = self._check(loader, val_only=False)
        else:  # a run that goes on, or is evaluated: what was found at its start still holds
            where = Path(self.data)
            found = as_recorded(self._pairs(), layout.palette, record, where=where, max_pixels=loader.max_pixels)
        first = found.sources[0]
        if layout.val is None:
            splits = drawn_splits(first, saved, self.data, found=found.words, seed=seed, fraction=fraction)
        else:
            val = found.sources[1]
            splits = given_splits(
                lambda: first,
                lambda: val,
                layout.val.name,
                saved,
                found=lambda train: found.words,
                seed=seed,
                fraction=fraction,
            )
        noted = with_notes(splits, lambda train, val: [*layout.notes, *found.notes])
        return with_record(noted, {"looked": found.record})

    def for_evaluation(self, loader: LoaderConfig) -> LabelMapDataset:
        """As `DataModule.for_evaluation`: of the parts only that one is checked."""
        return self._check(loader, val_only=True).sources[0]

    def num_train_images(self, val_fraction: float) -> int:
        """How many images there are to train on, by their names alone: none is read."""
        part = self._layout.train or self._layout.val
        assert part is not None
        pairs = matched(Pairs(part.images, part.labels, part.suffix), Problems(Path(self.data)))
        if self._layout.val is not None:
            return len(pairs)
        return len(random_split(len(pairs), fraction=val_fraction, seed=0)[0])

    def _pairs(self, *, val_only: bool = False) -> list[Pairs]:
        both = (self._layout.train, self._layout.val)
        parts = [self._layout.val or self._layout.train] if val_only else both
        return [Pairs(part.images, part.labels, part.suffix) for part in parts if part is not None]

    def _check(self, loader: LoaderConfig, *, val_only: bool) -> Checked:
        key = (val_only, loader.max_pixels, loader.skip_bad)
        if key not in self._checked:
            self._checked[key] = checked(
                self._pairs(val_only=val_only),
                self._layout.palette,
                where=Path(self.data),
                max_pixels=loader.max_pixels,
                skip_bad=loader.skip_bad,
            )
        return self._checked[key]


def recognise(data: str, labels: str = "") -> Verdict:
    """Whether a path holds images with label maps, by the names in it; a mapping file says so itself."""
    path = Path(data)
    if labels:
        return Mine(f"--labels {labels} says what its label maps mean")
    if not path.is_dir():
        return NotMine()
    if (path / _MAPPING).is_file():
        return Mine(f"{_MAPPING} says what its label maps mean")
    train, val = _standard(path)
    part = train or val
    if part is not None:
        return Mine(f"{part.images.relative_to(path)} and {part.labels.relative_to(path)} hold images and label maps")
    return _nearly(path)


def _nearly(path: Path) -> Verdict:
    """Folders of images and of what could be label maps, of which something is missing."""
    folders = {entry.name.lower(): entry.name for entry in path.iterdir() if entry.is_dir()}
    images = [folders[name] for name in _NEARLY_IMAGES if name in folders]
    labels = [folders[name] for name in _NEARLY_LABELS if name in folders]
    if not images or not labels:
        return NotMine()
    known = images[0] in _IMAGES and labels[0] in _LABELS
    why = f"there is no label map ({', '.join(LABEL_SUFFIXES)}) in {labels[0]}/" if known else "their names are others"
    return Nearly(
        f"{images[0]}/ and {labels[0]}/ look like images and label maps, but {why}. Name them images/ and annotations/ "
        "(or labels/, masks/), each with the same file names, or name the folders in a mapping file (--labels)."
    )


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
