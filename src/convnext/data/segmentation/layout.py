"""A path -> where its images and label maps lie, by the names of folders and files.

What is known, tried in this order; I is a folder of images (images, image, imgs, JPEGImages, leftImg8bit, ...), L one
of label maps (annotations, labels, masks, mask, SegmentationClass, gtFine, ...), in any letter case; parts are called
as `data.parts` knows them, and label maps as `pairing` does:

    I/..., L/... and ImageSets/Segmentation/{train,val}.txt     VOC's: the images that are listed
    I/train/..., L/train/...          the same for val
    train/I/..., train/L/...          the same for val
    train/..., train_labels/...       the same for val; trainannot, train_masks, masks_train, ... too
    train/x.jpg, train/x_mask.png     the same for val: masks beside their images
    I/..., L/...                      one part
    x.jpg, x_mask.png (or x.png)      one part
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convnext.core.errors import UserError
from convnext.core.text import printable
from convnext.data.decode import IMAGE_SUFFIXES, BadImage
from convnext.data.parts import IMAGE_FOLDERS, LABEL_FOLDERS, folders_in, one_of_each, part_of, plain_name, without_word
from convnext.data.segmentation.decode_map import LABEL_SUFFIXES, LOSSY_SUFFIXES, read_map
from convnext.data.segmentation.pairing import (
    MAP_SUFFIXES,
    Pairs,
    beside_affixes,
    files_below,
    find_affixes,
    key_of,
    passed_over,
    stems,
)
from convnext.data.strings import read_text

_FEW = 2000  # files that are looked at to see how label maps are called
_FEW_COLOURS = 256  # of a label map; a photograph has more


@dataclass(frozen=True)
class Layout:
    """Where a data set's images and label maps lie."""

    train: Pairs | None
    val: Pairs | None
    notes: tuple[str, ...] = ()
    test: Pairs | None = None
    """The test part, where `val` is another: training takes none of it."""

    @property
    def parts(self) -> list[Pairs]:
        """Those that training takes, training first."""
        return [part for part in (self.train, self.val) if part is not None]

    @property
    def named(self) -> dict[str, Pairs]:
        """All: "train", "val" and "test"."""
        val = "test" if self.val is not None and part_of(self.val.name) == "test" else "val"
        found = {"train": self.train, val: self.val} | ({"test": self.test} if self.test is not None else {})
        return {name: part for name, part in found.items() if part is not None}


def find_layout(path: Path, *, suffix: str = "") -> Layout | None:
    """Where the images and label maps below a folder lie; None where there are none.

    suffix: what a mapping file says is added to the names of label maps. Raises UserError where it could be one of
    several, and says what to do.
    """
    found = _find(path)
    if found is None:
        return None
    named = [_with_affixes(part, suffix) for part in found.parts]
    parts = [part for part, _ in named]
    notes = [note for _, notes in named for note in notes]
    train = parts[0] if found.train else None
    test = _with_affixes(found.test, suffix)[0] if found.test else None
    return Layout(train, parts[-1] if found.val else None, (*found.notes, *dict.fromkeys(notes)), test)


def recognised(path: Path) -> Pairs | None:
    """The first part of a folder's images and label maps, by names alone; None where there are none. Raises UserError
    as `find_layout` does."""
    found = _find(path)
    return found.parts[0] if found is not None else None


def _find(path: Path) -> Layout | None:
    folders = _folders(path)
    pair = _pair(path, folders)
    if pair is not None:
        return _listed(path, *pair) or _inside(*pair) or _flat(*pair)
    return _by_part(path, folders) or _by_role(path, folders) or _beside_parts(path, folders) or _beside(path)


def _folders(path: Path) -> list[str]:
    return [e.name for e in folders_in(path) if e.name[0] != "." and not (e / "recipe.json").is_file()]


def _pair(path: Path, folders: Sequence[str]) -> tuple[Path, Path] | None:
    """A folder of images and one of label maps, in a folder. Raises UserError where several could be either."""
    images = [name for name in folders if plain_name(name) in IMAGE_FOLDERS]
    labels = [name for name in folders if plain_name(name) in LABEL_FOLDERS]
    if not images or not labels:
        return None
    labels = [name for name in labels if has_maps(path / name)]
    images = [name for name in images if _holds(path / name, IMAGE_SUFFIXES)] if len(images) > 1 else images
    for what, names in (("images", images), ("label maps", labels)):
        if len(names) > 1:
            raise UserError(
                f"{', '.join(map(printable, names))} in {path} can each be the folder of {what}. Name them in a "
                f'mapping file, {path}/labels.json: "train": {{"images": "{printable(images[0])}", "labels": '
                f'"{printable(labels[0])}"}}, or move the others away.'
            )
    return (path / images[0], path / labels[0]) if images and labels else None


def has_maps(folder: Path) -> bool:
    """Whether there is what can be a label map somewhere in a folder."""
    return _holds(folder, MAP_SUFFIXES)


def _holds(folder: Path, suffixes: Sequence[str]) -> bool:
    return next(files_below(folder, suffixes), None) is not None


def _chosen(parts: dict[str, Pairs], notes: Iterable[str] = ()) -> Layout | None:
    """Training and validation parts; the test part where there is no other."""
    if not parts:
        return None
    val = parts.get("val") or parts.get("test")
    test = parts.get("test") if "val" in parts else None
    unused = [f"Not used: '{test.name}'."] if test else []
    return Layout(parts.get("train"), val, (*notes, *unused), test)


def _listed(path: Path, images: Path, labels: Path) -> Layout | None:
    """VOC's lists of images, one a part."""
    lists = {file.stem: file for file in sorted((path / "ImageSets" / "Segmentation").glob("*.txt"))}
    if not lists:
        return None
    names = one_of_each([name for name in lists if part_of(name)], path / "ImageSets" / "Segmentation")
    if "train" not in names:  # "trainval" or "default" alone: all that they name is one part
        keys = tuple(dict.fromkeys(key for file in lists.values() for key in _keys(file)))
        return Layout(Pairs(images, labels, listed=keys), None)
    return _chosen({p: Pairs(images, labels, listed=_keys(lists[name]), name=name) for p, name in names.items()})


def _keys(file: Path) -> tuple[str, ...]:
    lines = (line.strip() for line in read_text(file, most=1 << 26).split("\n"))
    return tuple(dict.fromkeys(key_of(line) for line in lines if line))


def _inside(images: Path, labels: Path) -> Layout | None:
    """Parts in the folder of images and in that of label maps."""
    here = one_of_each(_folders(images), images)
    there = one_of_each([name for name in _folders(labels) if has_maps(labels / name)], labels)
    if not here.keys() & there.keys():
        return None
    both = {p: Pairs(images / here[p], labels / there[p], name=here[p]) for p in here if p in there}
    alone = [f"'{here[p]}' has no label maps and is not used." for p in here if p not in there]
    return _chosen(both, alone)


def _flat(images: Path, labels: Path) -> Layout:
    return Layout(Pairs(images, labels), None)


def _by_part(path: Path, folders: Sequence[str]) -> Layout | None:
    """train/images and train/masks."""
    found: dict[str, Pairs] = {}
    for part, name in _of_parts(path, folders, lambda folder: _pair(folder, _folders(folder)) is not None).items():
        pair = _pair(path / name, _folders(path / name))
        if pair is not None:
            found[part] = Pairs(*pair, name=name)
    return _chosen(found)


def _of_parts(path: Path, folders: Sequence[str], fits: Callable[[Path], bool]) -> dict[str, str]:
    return one_of_each([name for name in folders if part_of(name) and fits(path / name)], path)


def _by_role(path: Path, folders: Sequence[str]) -> Layout | None:
    """train/ and train_labels/, train_images/ and train_masks/."""
    named = [name for name in folders if part_of(without_word(name, IMAGE_FOLDERS) or name)]
    images = {part_of(without_word(name, IMAGE_FOLDERS) or name): name for name in named}
    labels = {part_of(rest): name for name in folders if (rest := without_word(name, LABEL_FOLDERS)) and part_of(rest)}
    found = {
        part: Pairs(path / name, path / labels[part], name=name)
        for part, name in images.items()
        if part in labels and has_maps(path / labels[part])
    }
    return _chosen(found)


def _beside_parts(path: Path, folders: Sequence[str]) -> Layout | None:
    """train/x.jpg and train/x_mask.png."""
    found = {}
    for part, name in _of_parts(path, folders, lambda folder: _beside_in(folder) is not None).items():
        pairs = _beside_in(path / name)
        if pairs is not None:
            found[part] = pairs._replace(name=name)
    return _chosen(found)


def _beside(path: Path) -> Layout | None:
    pairs = _beside_in(path)
    return None if pairs is None else Layout(pairs, None)


def _beside_in(path: Path) -> Pairs | None:
    """Label maps beside their images, called after them, or with another ending."""
    names = stems(path, IMAGE_SUFFIXES, _FEW)
    affixes = beside_affixes(names)
    if affixes is not None:
        return Pairs(path, path, affixes=affixes)
    photos, maps = set(stems(path, LOSSY_SUFFIXES, _FEW)), set(stems(path, LABEL_SUFFIXES, _FEW))
    if not photos or len(photos & maps) * 10 < 9 * max(len(photos), len(maps)):
        return None
    first = next(files_below(path, LABEL_SUFFIXES))
    try:
        data = (path / first).read_bytes()
        looked = read_map(data, name=str(first), max_pixels=1 << 26)
    except (OSError, BadImage):
        return None
    if looked.by_colour and len(np.unique(looked.codes)) > _FEW_COLOURS:
        return None  # the same photograph in another format
    return Pairs(path, path, maps=LABEL_SUFFIXES, images_end=LOSSY_SUFFIXES)


def _with_affixes(part: Pairs, suffix: str) -> tuple[Pairs, list[str]]:
    """A part with what is added to its files' names; and notes on what is left out."""
    if suffix:
        return part._replace(suffix=suffix), []
    notes = []
    if not part.beside and part.listed is None:
        images, labels = stems(part.images, IMAGE_SUFFIXES), stems(part.labels, MAP_SUFFIXES)
        affixes, others = find_affixes(images, labels)
        part = part._replace(affixes=affixes)
        if others:
            left = ", ".join(f"{count:,} files ...{printable(what)}" for what, count in others.items())
            notes.append(f"Not read in {part.labels}, where label maps are called ...{affixes.map_behind}: {left}.")
    passed = passed_over(part)
    if passed:
        kinds = ", ".join(f"{count:,} {printable(kind)}" for kind, count in passed.most_common(6))
        notes.append(f"Passed over in '{part.name}', neither images nor label maps: {kinds}.")
    return part, notes
