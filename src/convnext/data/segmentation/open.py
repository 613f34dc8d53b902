"""A path to images with label maps, whatever their layout -> training and validation parts.

Where images and label maps lie is found by names (`layout`), or said by a mapping file (`mapping`): `labels.json` in
the folder, or named by --labels. It names, where they are called otherwise, "train": {"images": "leftImg8bit/train",
"labels": "gtFine/train"}, the same for "val", and "suffix", what is added to the names of label maps.

What values mean is said by such a file, by classes.txt and what other tools write; else evidence decides (`meaning`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convnext.core.errors import UserError, nearest
from convnext.data.config import LoaderConfig
from convnext.data.parts import IMAGE_FOLDERS, LABEL_FOLDERS, folders_in
from convnext.data.problems import Problems
from convnext.data.recognise import Mine, Nearly, NotMine, Verdict
from convnext.data.segmentation.conventions import convention, convention_of
from convnext.data.segmentation.label_maps import LabelMapDataset
from convnext.data.segmentation.layout import Layout, find_layout, recognised
from convnext.data.segmentation.mapping import MAPPING, Said, is_mapping, read_mapping, said_by_file
from convnext.data.segmentation.pairing import Pairs, matched
from convnext.data.segmentation.validate import Checked, as_recorded, checked
from convnext.data.splits import (
    Record,
    Splits,
    drawn_splits,
    given_splits,
    random_split,
    the_part,
    with_notes,
    with_record,
)

LAYOUT = """Accepted are images with label maps of the same names, as one of:

    {root}/images/train/..., {root}/annotations/train/...   (and the same for val; masks/, labels/, ... do too)
    {root}/train/images/..., {root}/train/masks/...
    {root}/images/..., {root}/annotations/...
    {root}/train/x.jpg, {root}/train/x_mask.png

with the classes' names in {root}/classes.txt, or a mapping file (--labels).
"""


@dataclass(frozen=True)
class _Opened:
    layout: Layout
    said: Said


class SegmentationData:
    """Images with label maps (`DataModule`); the top of this file lists what is accepted. Label maps are checked once.

    labels: a mapping file; empty: what the data says itself.

    Raises UserError saying what was found and what to do, for a layout that is not accepted; the parts raise it, when
    they are asked for, for pairs that something is wrong with (unless `loader.skip_bad`): all of them in one summary.
    """

    def __init__(self, data: str | Path, *, labels: str = "") -> None:
        self.data = data
        opened = _opened(data, labels)
        self._layout, self._said = opened.layout, opened.said
        self._checked: dict[tuple[tuple[Pairs, ...], int, bool], Checked] = {}

    def splits(self, loader: LoaderConfig, *, seed: int, saved: Record | None = None) -> Splits[LabelMapDataset]:
        """As `DataModule.splits`. A saved record also holds what checking all label maps found, which then is not done
        again."""
        layout, fraction = self._layout, loader.val_fraction
        if layout.train is None:
            assert layout.val is not None
            raise UserError(f"{self.data} has a '{layout.val.name}' part but no 'train' part. Add one beside it.")
        record = (saved or {}).get("looked")
        if record is None:
            found = self._check(loader, layout.parts)
        else:  # a run that goes on, or is evaluated: what was found at its start still holds
            where = Path(self.data)
            found = as_recorded(layout.parts, self._said, record, where=where, max_pixels=loader.max_pixels)
        first = found.sources[0]
        if layout.val is None:
            splits = drawn_splits(
                first,
                saved,
                self.data,
                found=found.words,
                seed=seed,
                fraction=fraction,
                present=found.present,
            )
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
        noted = with_notes(
            splits, lambda train, val: [*layout.notes, *self._said.notes, *found.notes, found.not_judged(val)]
        )
        return with_record(noted, {"looked": found.record})

    def for_evaluation(self, loader: LoaderConfig, split: str = "") -> LabelMapDataset:
        """As `DataModule.for_evaluation`: of the parts only that one is checked, where the data names its classes."""
        layout = self._layout
        part = the_part(split, layout.named, self.data) if split else layout.parts[-1]
        decided = self._said.palette is not None or bool(self._said.names)
        alone = decided or layout.train in (None, part)
        return self._check(loader, [part] if alone or layout.train is None else [layout.train, part]).sources[-1]

    def num_train_images(self, val_fraction: float) -> int:
        """How many images there are to train on, by their names alone: none is read."""
        pairs = matched(self._layout.parts[0], Problems(Path(self.data)))
        if self._layout.val is not None:
            return len(pairs)
        return len(random_split(len(pairs), fraction=val_fraction, seed=0)[0])

    def _check(self, loader: LoaderConfig, parts: Sequence[Pairs]) -> Checked:
        key = (tuple(parts), loader.max_pixels, loader.skip_bad)
        if key not in self._checked:
            self._checked[key] = checked(
                parts,
                self._said,
                where=Path(self.data),
                max_pixels=loader.max_pixels,
                skip_bad=loader.skip_bad,
            )
        return self._checked[key]


def recognise(data: str, labels: str = "") -> Verdict:
    """Whether a path holds images with label maps, by the names in it; a mapping file says so itself."""
    path = Path(data)
    if labels and not convention_of(labels):
        return Mine(f"--labels {labels} says what its label maps mean")
    if not path.is_dir():
        return NotMine()
    if is_mapping(path / MAPPING):
        return Mine(f"{MAPPING} says what its label maps mean")
    try:
        part = recognised(path)
    except UserError as error:
        return Nearly(str(error))
    except OSError:
        return NotMine()
    if part is None:
        return _nearly(path)
    if part.beside:
        where = part.images.relative_to(path)
        return Mine(f"label maps lie beside their images{'' if where == Path() else f' in {where}'}")
    return Mine(f"{part.images.relative_to(path)} and {part.labels.relative_to(path)} hold images and label maps")


def _nearly(path: Path) -> Verdict:
    """Folders of images and of what could be label maps, of which something is missing."""
    folders = {entry.name.lower(): entry.name for entry in folders_in(path)}
    images = [folders[name] for name in IMAGE_FOLDERS if name in folders]
    labels = [folders[name] for name in LABEL_FOLDERS if name in folders]
    inner = [name for name in folders.values() if _holds_layout(path / name)]
    if len(inner) == 1:
        return Nearly(f"{path} holds one folder of images and label maps: give {path / inner[0]}.")
    if not images or not labels:
        return NotMine()
    return Nearly(
        f"{images[0]}/ and {labels[0]}/ look like images and label maps, but there is no label map (.png, .bmp, .tif) "
        f"in {labels[0]}/."
    )


def _holds_layout(path: Path) -> bool:
    try:
        part = recognised(path)
    except (UserError, OSError):
        return False
    return part is not None and not part.beside


def _opened(data: str | Path, labels: str) -> _Opened:
    path = Path(data)
    if not path.is_dir():
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        what = "is no folder." if path.exists() else f"is not there.{nearest(path.name, beside)}"
        raise UserError(f"{path} {what} {LAYOUT.format(root=path)}")
    word = convention_of(labels)
    mapping = Path(labels) if labels and not word else path / MAPPING
    foreign = not labels and mapping.is_file() and not is_mapping(mapping)
    named = bool(labels and not word) or (mapping.is_file() and is_mapping(mapping))
    said, content = read_mapping(mapping) if named else (None, {})
    train, val, test = (_given_part(content, name, path, mapping) for name in ("train", "val", "test"))
    if train or val or test:
        layout = Layout(train, val or test, test=test if val else None)
    else:
        layout = find_layout(path, suffix=_suffix(content, mapping))
    if layout is None:
        raise UserError(f"{path} holds no label maps. {LAYOUT.format(root=path)}")
    if said is None:
        said = said_by_file(path, [part.labels for part in layout.parts], path.resolve().parent)
        said = _by_convention(word, said, layout) if word else said
    if foreign:
        note = f"{mapping} is no mapping file (it has no list of classes) and is passed over."
        layout = replace(layout, notes=(*layout.notes, note))
    return _Opened(layout, said)


def _by_convention(word: str, said: Said, layout: Layout) -> Said:
    """A convention that was asked for; what the data itself says goes before it."""
    if (said.names or said.palette is not None) and not said.notes:
        note = f"The classes are those of {said.source}, not those of --labels {word}."
        return Said(said.names, said.palette, said.source, notes=(note,))
    train_ids = all("trainids" in part.affixes.map_behind.lower() for part in layout.parts)
    palette = convention(word, train_ids=train_ids)
    note = f"The {len(palette.classes)} classes are those of {word}, as --labels {word} (or the recipe) asks."
    return Said((), palette, word, asked=True, notes=(note,))


def _given_part(content: Any, name: str, root: Path, mapping: Path) -> Pairs | None:
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
    images, labels = (root / str(folders[kind]) for kind in ("images", "labels"))
    return Pairs(images, labels, suffix=_suffix(content, mapping), name=name)


def _suffix(content: Any, mapping: Path) -> str:
    suffix = content.get("suffix", "")
    if not isinstance(suffix, str) or "/" in suffix or "\\" in suffix or "\0" in suffix:
        raise UserError(f'{mapping}: "suffix" is what is added to the names of label maps, as "_labels".')
    return suffix
