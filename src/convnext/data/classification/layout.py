"""How images with a class each lie on a disk: which parts there are, and how each is read.

What is accepted, tried in this order:

    digits                         the word: scikit-learn's handwritten digits
    FILE.tar, FILE.tar.gz, ...     one shard; train/ and val/ in it are its parts
    FOLDER/train + FOLDER/val      each with class folders, or each with shards (ImageNet's layout)
    FOLDER/<class>/train + val     class folders with the parts in each
    FOLDER/<class>/...             class folders
    FILE.csv, FOLDER/labels.csv    tables of images and labels (`tables`); file names that start with the class
    FOLDER/*.tar                   shards; names with the word "train" and with "val" are the two parts

Parts are known by their names in any usual spelling (`data.parts`). Folders that all hold the same class folders can be
parts of other names, or classes: that is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from convnext.core.errors import UserError, nearest
from convnext.data.classification.config import AS_FOUND, TableConfig
from convnext.data.classification.dataset import ClassificationDataset
from convnext.data.classification.digits import DigitsDataset
from convnext.data.classification.folder import FolderDataset
from convnext.data.classification.listed import TableDataset
from convnext.data.classification.scan import LAYOUT, class_folders, holds_images, some
from convnext.data.classification.shard_index import SHARD_SUFFIXES, ShardIndex, find_shards
from convnext.data.classification.shards import ShardDataset
from convnext.data.classification.table import TABLE_SUFFIXES, is_table
from convnext.data.classification.tables import Tables, find_tables
from convnext.data.parts import PARTS, one_of_each, part_of, parts_among


class Reading(NamedTuple):
    """How images are read: as `decode_bands` takes it."""

    max_pixels: int
    bands: int = 3
    white: float = 0.0
    skip_bad: bool = False
    """Whether rows of a table whose image is not there are left out."""

    def decoding(self) -> dict[str, Any]:
        """How files are decoded."""
        return {"max_pixels": self.max_pixels, "bands": self.bands, "white": self.white}


Part = Callable[[Sequence[str] | None, Reading], ClassificationDataset]
"""Opens one part of the data, given the classes it must keep to (None: those found) and how its images are read."""
_ALIKE = 0.5  # share of class folders in common from which two folders look like parts of one data set


@dataclass(frozen=True)
class Layout:
    """A data set's parts."""

    what: str
    """In words, for the note: "class folders", "2 shards"."""
    parts: Mapping[str, Part]
    """Of "train", "val" and "test" those that there are; data without parts is all "train"."""
    names: Mapping[str, str]
    """What each part is called in the data, as "Training"; empty where there are no parts."""
    notes: tuple[str, ...] = ()
    """Sentences for people: what is left out."""


def find_layout(data: str | Path, *, folders: str = "auto", table: TableConfig = AS_FOUND) -> Layout:
    """The parts of the data at a path; the top of this file lists what is accepted.

    folders: "classes" takes every folder for a class, whatever its name and whatever it holds. table: how tables are
    read.

    Raises UserError, saying what was found and what to do, for a path that holds no such data.
    """
    path = Path(data)
    if str(data) == "digits":
        return _whole("scikit-learn's handwritten digits", lambda keys, reading: DigitsDataset())
    if not path.exists():
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"There is no {path}.{nearest(path.name, beside)} A folder of images, or 'digits', is needed.")
    if is_table(path) and path.is_file() and (found := find_tables(path, table)):
        return _listed(found, table)
    if path.is_file():
        if not path.name.lower().endswith(SHARD_SUFFIXES):
            raise UserError(
                f"{path} is a file. Accepted are folders, tables ({', '.join(TABLE_SUFFIXES)}) and tar files "
                f"({', '.join(SHARD_SUFFIXES)}); unpack other archives first. "
                f"{LAYOUT.format(root=path.with_suffix(''))}"
            )
        return _shards([path])
    classes, shards = class_folders(path), find_shards(path)
    if folders == "classes":
        return _whole("class folders", partial(_folder, path, ""))
    if not shards and (found := find_tables(path, table)):
        return _listed(found, table)
    parts = _named_parts(path, classes)
    if "train" in parts or (parts and all(part_of(name) for name in classes)):
        return _folder_parts(path, parts, [name for name in classes if name not in parts.values()])
    # a shard unpacked beside itself makes one folder; two or more with images are the classes
    if shards and len([folder for folder in classes if holds_images(path, folder)]) < 2:
        return _shard_parts(path, shards)
    if inner := _parts_in_classes(path, classes):
        parts = {part: partial(_folder, path, "", inner=name) for part, name in inner.items()}
        return Layout("class folders with parts in them", parts, inner)
    check_not_parts(path, classes)
    return _whole("class folders", partial(_folder, path, ""))


def _parts_in_classes(path: Path, folders: Sequence[str]) -> dict[str, str]:
    """Part -> the folder that is it in every class's folder, as cat/train, dog/train; empty where classes do not hold
    parts alone."""
    inner = {name for folder in folders for name in _inner_classes(path, folder)}
    parts = parts_among(inner)
    if "train" not in parts or len(parts) < 2 or not all(part_of(name) for name in inner):
        return {}
    doubled = next((names for names in parts.values() if len(names) > 1), None)
    if doubled:
        raise UserError(f"{some(doubled)}, in the class folders of {path}, name the same part. Give them one name.")
    return {part: names[0] for part, names in parts.items()}


def check_not_parts(path: Path, folders: Sequence[str]) -> None:
    """Raises UserError where several folders hold the same class folders: they can be parts, or classes."""
    inner = {folder: _inner_classes(path, folder) for folder in folders}
    first, *others = inner.values() or [set()]
    if not others or min(map(len, inner.values())) < 2:
        return
    if all(len(first & other) >= _ALIKE * len(first | other) for other in others):
        same = sorted(set.intersection(*inner.values()))
        raise UserError(
            f"{some(folders)} in {path} hold the same folders ({some(same)}). Are they parts of the data, or classes? "
            "Parts: rename them to 'train' and 'val' (or 'test'). Classes: --folders classes."
        )


def _inner_classes(path: Path, folder: str) -> set[str]:
    return {name for name in class_folders(path / folder) if holds_images(path / folder, name)}


def _named_parts(path: Path, folders: Sequence[str]) -> dict[str, str]:
    """Part -> the folder that is it. A class can be called "train" too, but holds images rather than folders or shards.

    Raises UserError where two folders name one part.
    """
    holding = [name for name in folders if class_folders(path / name) or find_shards(path / name)]
    return one_of_each(holding, path, advice="; or, where they are classes: --folders classes")


def _folder_parts(path: Path, parts: Mapping[str, str], others: Sequence[str]) -> Layout:
    """FOLDER/train and FOLDER/val: of class folders, or of shards."""

    def opened(name: str) -> Part:
        shards = find_shards(path / name)
        return partial(_read_shards, ShardIndex(shards), "") if shards else partial(_folder, path / name, f"{name}/")

    left = [name for name in others if holds_images(path, name)]
    notes = (f"Left out: {some(left)} in {path}, beside the parts.",) if left else ()
    what = " and ".join(f"'{name}'" for name in parts.values())
    return Layout(what, {part: opened(name) for part, name in parts.items()}, parts, notes)


def _shard_parts(path: Path, shards: Sequence[Path]) -> Layout:
    """Shards in one folder: parts where their names say "train" and "val", as one word of the name."""
    said = {shard: {part_of(word) for word in re.split(r"[^a-z]+", shard.name.lower())} for shard in shards}
    by_part = {
        part: [s for s in shards if part in said[s] and not said[s] & set(PARTS[:place])]
        for place, part in enumerate(PARTS)
    }
    by_part = {part: of_part for part, of_part in by_part.items() if of_part}
    if "train" not in by_part or len(by_part) < 2:
        return _shards(shards)
    others = [shard.name for shard in shards if not said[shard] & set(PARTS)]
    names = {part: _word(of_part, part) for part, of_part in by_part.items()}
    if others:
        named = " and ".join(f"'{name}'" for name in names.values())
        raise UserError(
            f"{path} has shards named {named}, and {', '.join(others[:3])}, which say neither. Rename or move those."
        )
    parts = {part: partial(_read_shards, ShardIndex(of_part), "") for part, of_part in by_part.items()}
    return Layout(f"{sum(map(len, by_part.values()))} shards", parts, names)


def _word(shards: Sequence[Path], part: str) -> str:
    """The word in a shard's name that says its part."""
    return next(word for word in re.split(r"[^a-z]+", shards[0].name.lower()) if part_of(word) == part)


def _shards(paths: Sequence[Path]) -> Layout:
    """Shards that are one data set, or hold its parts as folders."""
    index = ShardIndex(paths)
    what = "one shard" if len(paths) == 1 else f"{len(paths)} shards"
    parts = index.parts()
    if "train" not in parts or len(parts) < 2:
        return _whole(what, partial(_read_shards, index, ""))
    return Layout(what, {part: partial(_read_shards, index, name) for part, name in parts.items()}, parts)


def _listed(found: Tables, config: TableConfig) -> Layout:
    """A table's parts: files of their own, or rows of one."""
    reader = found.reader(config)

    def opened(part: str, keys: Sequence[str] | None, reading: Reading) -> ClassificationDataset:
        return TableDataset(reader, part, keys=keys, skip_bad=reading.skip_bad, **reading.decoding())

    parts = [*reader.rows]
    several = len(parts) > 1 or parts[0] != "train"
    names = {part: found.tables[part].path.name if len(found.tables) > 1 else part for part in parts}
    return Layout(
        found.what,
        {part: partial(opened, part) for part in parts},
        names if several else {},
        (*found.notes, *reader.notes),
    )


def _whole(what: str, part: Part) -> Layout:
    return Layout(what, {"train": part}, {})


def _folder(
    path: Path, prefix: str, keys: Sequence[str] | None, reading: Reading, *, inner: str = ""
) -> ClassificationDataset:
    return FolderDataset(path, class_dirs=keys, prefix=prefix, inner=inner, **reading.decoding())


def _read_shards(index: ShardIndex, part: str, keys: Sequence[str] | None, reading: Reading) -> ClassificationDataset:
    return ShardDataset(index, keys=keys, part=part, **reading.decoding())
