"""Annotated images, opened: training and validation parts (`layout` says what is accepted).

Without a validation part, a share of the images is held out.
"""

from __future__ import annotations

from pathlib import Path

import torch

from convnext.core.errors import UserError
from convnext.core.text import printable
from convnext.data.config import LoaderConfig
from convnext.data.detection import agree
from convnext.data.detection.annotations import Annotations, Crowds, read_annotations
from convnext.data.detection.coco import CocoDataset
from convnext.data.detection.coco_file import same_categories
from convnext.data.detection.layout import COCO, Part, coco_files, find_layout, search
from convnext.data.recognise import Mine, Nearly, NotMine, Verdict
from convnext.data.splits import Record, Splits, drawn_splits, given_splits, the_part, with_notes


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
        found, fraction = self._counted(whole), loader.val_fraction
        present = torch.from_numpy(whole.present())
        splits = drawn_splits(whole, saved, self.data, found=found, seed=seed, fraction=fraction, present=present)
        if splits.held_out and not splits.train.counts.sum():
            raise UserError(
                "All objects are in the images that are held out. Annotate more images, or choose another seed."
            )
        missed = agree.missed(splits.train, splits.val) if splits.held_out else ""
        return with_notes(splits, lambda train, val: [missed, whole.file.note, *self._unused(whole.file)])

    def _given(
        self, train_part: Part, val_part: Part, loader: LoaderConfig, seed: int, saved: Record | None
    ) -> Splits[CocoDataset]:
        def val() -> CocoDataset:
            return self._aligned(val_part, train_part, loader)

        def train() -> CocoDataset:
            dataset = self._dataset(train_part, loader)
            agree.check_masks(dataset.file, val().file)
            return dataset

        def note(train: CocoDataset, val: CocoDataset) -> list[str]:
            notes = [train.file.note, val.file.note, agree.missed(train, val), agree.shared(train, val)]
            return [*dict.fromkeys(notes), *self._unused(train.file, val.file)]

        splits = given_splits(
            train,
            val,
            val_part.name,
            saved,
            found=self._counted,
            seed=seed,
            fraction=loader.val_fraction,
        )
        return with_notes(splits, note)

    def for_evaluation(self, loader: LoaderConfig, split: str = "") -> CocoDataset:
        """As `DataModule.for_evaluation`."""
        train = self._layout.train
        part = the_part(split, self._layout.parts, self.data) if split else self._layout.val or train
        assert part is not None
        return self._dataset(part, loader) if train in (None, part) else self._aligned(part, train, loader)

    def _dataset(self, part: Part, loader: LoaderConfig) -> CocoDataset:
        annotations = self._annotations(part, loader)
        if annotations.problems and not loader.skip_bad:
            raise UserError(annotations.problems)
        return CocoDataset(annotations, max_pixels=loader.max_pixels)

    def _aligned(self, val: Part, train: Part, loader: LoaderConfig) -> CocoDataset:
        """The validation part with the classes of the training part, which is read only where they differ."""
        found = self._dataset(val, loader)
        if same_categories(train.file, found.file.category_ids, found.file.classes):
            return found
        own = agree.aligned(found.file, self._annotations(train, loader), skip_bad=loader.skip_bad)
        return CocoDataset(own, max_pixels=loader.max_pixels)

    def _annotations(self, part: Part, loader: LoaderConfig) -> Annotations:
        key = (part.name, part.file, loader.max_pixels)
        if key not in self._read:
            self._read[key] = read_annotations(
                part.file, part.folders, max_pixels=loader.max_pixels, document=part.read(), crowds=self._crowds
            )
        return self._read[key]

    def _counted(self, dataset: CocoDataset) -> str:
        what = "boxes and masks" if dataset.has_masks else "boxes"
        empty = int((dataset.counts == 0).sum())
        without = f", {empty:,} image{'s' if empty > 1 else ''} without objects" if empty else ""
        objects = f"{int(dataset.counts.sum()):,} objects of {len(dataset.classes):,} classes ({what})"
        form = "" if self._layout.form == COCO else f", annotated {self._layout.form}"
        return f"{len(dataset):,} images, {objects}{without}{form}"

    def _unused(self, *files: Annotations) -> list[str]:
        """What the data holds and no part takes."""
        names = [f"'{printable(name)}'" for name in self._layout.unused]
        return [f"Not used: {', '.join(names)}."] * bool(names) + agree.unused(list(files))


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
    if names := [file.relative_to(path).as_posix() for file in coco_files(path)]:
        return Nearly(
            f"{path} has {len(names)} annotation files, {', '.join(map(printable, names[:3]))}: name one of them, "
            f"--data {path}/{printable(names[0])}, or call them train.json and val.json."
        )
    return NotMine()
