"""A path to annotated images, whatever their layout -> training and validation parts.

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
from dataclasses import dataclass
from pathlib import Path

from convnext.core.errors import UserError, nearest
from convnext.data.config import LoaderConfig
from convnext.data.detection.annotations import Annotations, read_annotations
from convnext.data.detection.coco import CocoDataset
from convnext.data.recognise import Mine, Nearly, NotMine, Verdict
from convnext.data.splits import Record, Splits, drawn_splits, given_splits, with_notes

LAYOUT = """Accepted is an annotation file in COCO's form with its images, as one of:

    {root}/annotations/instances_train.json, {root}/images/train/...   (and the same for val)
    {root}/train/_annotations.coco.json, {root}/train/...              (and the same for valid)
    {root}/anything.json, {root}/images/...
"""
_ROBOFLOW = "_annotations.coco.json"
_START = 65536  # bytes; the lists of a file have begun by then
_VAL = ("valid", "val", "validation", "test")  # in this order of preference
_INSTANCES = re.compile(r"instances_(train|val)(\d*)\.json")


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


class DetectionData:
    """Annotated images (`DataModule`); the top of this file lists what is accepted. An annotation file is read once.

    Raises UserError saying what was found and what to do, for a layout that is not accepted; the parts raise it, when
    they are read, for files that something is wrong with (unless `loader.skip_bad`) and parts of other classes.
    """

    def __init__(self, data: str | Path) -> None:
        self.data = data
        self._layout = _layout(data)
        self._read: dict[tuple[Path, int], Annotations] = {}

    def splits(self, loader: LoaderConfig, *, seed: int, saved: Record | None = None) -> Splits[CocoDataset]:
        """As `DataModule.splits`: the data's own parts, or a share of the images held out."""
        if self._layout.train is None:
            assert self._layout.val is not None
            raise UserError(f"{self.data} has a '{self._layout.val.name}' part but no 'train' part. Add one beside it.")
        if self._layout.val is None:
            return self._drawn(self._layout.train, loader, seed, saved)
        return self._given(self._layout.train, self._layout.val, loader, seed, saved)

    def _drawn(self, part: _Part, loader: LoaderConfig, seed: int, saved: Record | None) -> Splits[CocoDataset]:
        whole = self._dataset(part, loader)
        found, fraction = _counted(whole), loader.val_fraction
        splits = drawn_splits(whole, saved, self.data, found=found, seed=seed, fraction=fraction)
        if splits.held_out and not splits.train.counts.sum():
            raise UserError(
                "All objects are in the images that are held out. Annotate more images, or choose another seed."
            )
        return with_notes(splits, lambda train, val: [whole.file.note])

    def _given(
        self, train_part: _Part, val_part: _Part, loader: LoaderConfig, seed: int, saved: Record | None
    ) -> Splits[CocoDataset]:
        def train() -> CocoDataset:
            dataset = self._dataset(train_part, loader)
            _check_alike(dataset, self._dataset(val_part, loader))
            return dataset

        splits = given_splits(
            train,
            lambda: self._dataset(val_part, loader),
            val_part.name,
            saved,
            found=_counted,
            seed=seed,
            fraction=loader.val_fraction,
        )
        return with_notes(splits, lambda train, val: [train.file.note, val.file.note])

    def for_evaluation(self, loader: LoaderConfig) -> CocoDataset:
        """As `DataModule.for_evaluation`."""
        part = self._layout.val or self._layout.train
        assert part is not None
        return self._dataset(part, loader)

    def _dataset(self, part: _Part, loader: LoaderConfig) -> CocoDataset:
        key = (part.file, loader.max_pixels)
        if key not in self._read:
            self._read[key] = read_annotations(part.file, part.folders, max_pixels=loader.max_pixels)
        annotations = self._read[key]
        if annotations.problems and not loader.skip_bad:
            raise UserError(annotations.problems)
        return CocoDataset(annotations, max_pixels=loader.max_pixels)


def recognise(data: str) -> Verdict:
    """Whether a path holds images annotated in COCO's form, by its names and the first bytes of .json files."""
    path = Path(data)
    if path.is_file():
        return Mine(f"{path.name} is a .json file") if path.suffix.lower() == ".json" else NotMine()
    if not path.is_dir():
        return NotMine()
    found = _find(path)
    if found is not None:
        part = found.train or found.val
        assert part is not None
        return Mine(f"{part.file.relative_to(path)} is an annotation file in COCO's form")
    several = [entry.name for entry in sorted(path.glob("*.json")) if _begins_as_coco(entry)]
    inside = [entry.name for entry in sorted(path.glob("annotations/*.json")) if _begins_as_coco(entry)]
    if inside and not several:
        return Nearly(
            f"{path}/annotations has {', '.join(inside[:3])} in COCO's form, under another name than "
            f"instances_train.json: name the file, --data {path}/annotations/{inside[0]}."
        )
    if several:
        return Nearly(f"{path} has {len(several)} annotation files, {', '.join(several[:3])}: name one of them.")
    return NotMine()


def _counted(dataset: CocoDataset) -> str:
    what = "boxes and masks" if dataset.has_masks else "boxes"
    return (
        f"{len(dataset):,} images, {int(dataset.counts.sum()):,} objects of {len(dataset.classes):,} classes ({what})"
    )


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
            f"{with_masks.file.path} has masks ('segmentation'), {without.file.path} has boxes only. Give both "
            "parts masks, or neither."
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
