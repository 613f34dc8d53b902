"""Annotated images, opened: training and validation parts (`layout` says what is accepted).

Without a validation part, a share of the images is held out.
"""

from __future__ import annotations

from pathlib import Path

import torch

from convnext.core.errors import UserError
from convnext.data.config import LoaderConfig
from convnext.data.detection.annotations import Annotations, Crowds, read_annotations
from convnext.data.detection.coco import CocoDataset
from convnext.data.detection.layout import Part, begins_as_coco, find_layout, search
from convnext.data.recognise import Mine, Nearly, NotMine, Verdict
from convnext.data.splits import Record, Splits, drawn_splits, given_splits, with_notes


class DetectionData:
    """Annotated images (`DataModule`); `layout` lists what is accepted. Annotations are read once.

    crowds: what annotations with iscrowd 1 are (`annotations.read_annotations`).

    Raises UserError saying what was found and what to do, for a layout that is not accepted; the parts raise it, when
    they are read, for files that something is wrong with (unless `loader.skip_bad`) and parts of other classes.
    """

    def __init__(self, data: str | Path, *, crowds: Crowds = "auto") -> None:
        self.data = data
        self._crowds: Crowds = crowds
        self._layout = find_layout(data)
        self._read: dict[tuple[str, Path, int], Annotations] = {}

    def splits(self, loader: LoaderConfig, *, seed: int, saved: Record | None = None) -> Splits[CocoDataset]:
        """As `DataModule.splits`: the data's own parts, or a share of the images held out."""
        if self._layout.train is None:
            assert self._layout.val is not None
            raise UserError(f"{self.data} has a '{self._layout.val.name}' part but no 'train' part. Add one beside it.")
        if self._layout.val is None:
            return self._drawn(self._layout.train, loader, seed, saved)
        return self._given(self._layout.train, self._layout.val, loader, seed, saved)

    def _drawn(self, part: Part, loader: LoaderConfig, seed: int, saved: Record | None) -> Splits[CocoDataset]:
        whole = self._dataset(part, loader)
        found, fraction = _counted(whole), loader.val_fraction
        present = torch.from_numpy(whole.present())
        splits = drawn_splits(whole, saved, self.data, found=found, seed=seed, fraction=fraction, present=present)
        if splits.held_out and not splits.train.counts.sum():
            raise UserError(
                "All objects are in the images that are held out. Annotate more images, or choose another seed."
            )
        return with_notes(splits, lambda train, val: [whole.file.note])

    def _given(
        self, train_part: Part, val_part: Part, loader: LoaderConfig, seed: int, saved: Record | None
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
        unused = [f"Not used: '{name}'." for name in self._layout.unused]
        return with_notes(splits, lambda train, val: [train.file.note, val.file.note, *unused])

    def for_evaluation(self, loader: LoaderConfig) -> CocoDataset:
        """As `DataModule.for_evaluation`."""
        part = self._layout.val or self._layout.train
        assert part is not None
        return self._dataset(part, loader)

    def _dataset(self, part: Part, loader: LoaderConfig) -> CocoDataset:
        key = (part.name, part.file, loader.max_pixels)
        if key not in self._read:
            self._read[key] = read_annotations(
                part.file, part.folders, max_pixels=loader.max_pixels, document=part.read(), crowds=self._crowds
            )
        annotations = self._read[key]
        if annotations.problems and not loader.skip_bad:
            raise UserError(annotations.problems)
        return CocoDataset(annotations, max_pixels=loader.max_pixels)


def recognise(data: str) -> Verdict:
    """Whether a path holds annotated images, by its names and the first bytes of its files."""
    path = Path(data)
    if path.is_file():
        known = path.suffix.lower() in (".json", ".xml")
        return Mine(f"{path.name} is a {path.suffix.lower()} file") if known else NotMine()
    if not path.is_dir():
        return NotMine()
    found = search(path)
    if found is not None:
        part = found.train or found.val
        assert part is not None
        what = "is an annotation file" if part.file.is_file() else "holds annotations"
        return Mine(f"{part.file.relative_to(path) if part.file != path else path} {what} {found.form}")
    several = [entry.name for entry in sorted(path.glob("*.json")) if begins_as_coco(entry)]
    inside = [f"annotations/{entry.name}" for entry in sorted(path.glob("annotations/*.json")) if begins_as_coco(entry)]
    if several or inside:
        names = [*several, *inside]
        return Nearly(
            f"{path} has {len(names)} annotation files, {', '.join(names[:3])}: name one of them, --data "
            f"{path}/{names[0]}, or call them train.json and val.json."
        )
    return NotMine()


def _counted(dataset: CocoDataset) -> str:
    what = "boxes and masks" if dataset.has_masks else "boxes"
    empty = int((dataset.counts == 0).sum())
    without = f", {empty:,} images without objects" if empty else ""
    objects = f"{int(dataset.counts.sum()):,} objects of {len(dataset.classes):,} classes ({what})"
    return f"{len(dataset):,} images, {objects}{without}"


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
