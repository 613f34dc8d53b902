"""Where tables of images and labels lie: a file that is named, or files in a folder that belong to its images.

FILE.csv, .tsv, .txt, .jsonl, .parquet     beside its images, or in annotations/ or the like beside their folder
FOLDER/labels.csv (metadata, annotations, ...; or any one table)   beside images, or folders of them
FOLDER/train.csv + val.csv (+ test.csv)    parts
FOLDER/train/metadata.csv + ...            parts (Hugging Face's imagefolder)
FOLDER/cat_001.jpg, dog_001.jpg, ...       no table: the names of the files start with the class
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from convnext.core.console import few
from convnext.core.errors import UserError
from convnext.core.text import printable
from convnext.data.classification.columns import has_labels, names_images
from convnext.data.classification.config import AS_FOUND, TableConfig
from convnext.data.classification.files import FileFinder
from convnext.data.classification.flat import classes_in_names, prefix_of
from convnext.data.classification.listed import TableReader
from convnext.data.classification.scan import class_folders, holds_images, some
from convnext.data.classification.table import TABLE_SUFFIXES, Table, is_table, read_table
from convnext.data.parts import PARTS, part_of, parts_among

_USUAL = re.compile(
    r"_?(labels?|metadata|meta|annotations?|data|dataset|index|images?|list|targets?|tags|ground_?truth)"
)
_NAMES_OF_CLASSES = ("classes", "class_names", "labels_names", "names")
_FOLDERS_OF_TABLES = ("annotations", "annotation", "labels", "meta", "metadata", "splits", "lists", "csv")
_IMAGE_FOLDERS = {"images", "image", "imgs", "img", "jpegimages", "photos", "pictures", "jpg", "jpeg", "png"}
_AGREE = 0.9  # share of rows from which a table says the same as class folders


@dataclass(frozen=True)
class Tables:
    """The tables of a data set."""

    root: Path
    """The folder of the images."""
    tables: Mapping[str, Table]
    """Part -> its table; under "train" alone one that may hold all parts."""
    finder: FileFinder
    prefixes: Mapping[str, str] = field(default_factory=dict)
    """Part -> what goes before its files."""
    notes: tuple[str, ...] = ()
    said: str = ""
    """How the classes are known, where no table says them."""

    @property
    def what(self) -> str:
        """In words, for the note."""
        if self.said:
            return "classes in the names of the files"
        return " and ".join(dict.fromkeys(table.path.name for table in self.tables.values()))

    def reader(self, config: TableConfig) -> TableReader:
        """The tables, read. Raises UserError where their columns do not say what they mean."""
        config = TableConfig("file", "class", "one") if self.said else config
        return TableReader(self.root, self.tables, config, self.finder, prefixes=self.prefixes, said=self.said)


def find_tables(path: Path, config: TableConfig) -> Tables | None:
    """The tables that belong to the images at a path, None where there are none.

    Raises UserError for a file that is no table, and where a folder holds several, or class folders beside a table that
    says something else.
    """
    if path.is_file():
        return _of_file(path) if is_table(path) else None
    if not path.is_dir():
        return None
    found = _in_folder(path, config) or _in_parts(path)
    if found is None:
        return _flat(path)
    if _has_class_folders(path):
        return _unless_the_same(path, found, config)
    return found


def _of_file(path: Path) -> Tables:
    table = read_table(path)
    root = path.absolute().parent
    finder = FileFinder(root)
    if not names_images(table, finder.has) and root.name.lower() in _FOLDERS_OF_TABLES:
        above = FileFinder(root.parent)
        root, finder = (root.parent, above) if names_images(table, above.has) else (root, finder)
    others = [other.name for other in _tables_in(root) if other.name != path.name and _part_in(other)]
    note = f"Not used: {few(others)}, beside {path.name}: give the folder to use the parts." if others else ""
    return Tables(root, {"train": table}, finder, notes=(note,) if note and _part_in(path) else ())


def _tables_in(folder: Path) -> list[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return []
    return [
        entry
        for entry in entries
        if entry.name.lower().endswith(TABLE_SUFFIXES)
        and not entry.name.startswith(".")
        and entry.stem.lower() not in _NAMES_OF_CLASSES
        and entry.is_file()
    ]


def _part_in(path: Path) -> str:
    """The part that one word of a table's name says; "" for none, or two."""
    parts = {part_of(word) for word in re.split(r"[^a-z]+", path.stem.lower())} - {""}
    return parts.pop() if len(parts) == 1 else ""


def _in_folder(path: Path, config: TableConfig) -> Tables | None:
    """The tables directly in a folder, or in one of its folders that is named after annotations."""
    for place in (path, *(path / name for name in _FOLDERS_OF_TABLES)):
        named = _tables_in(place) if place.is_dir() else []
        if not named:
            continue
        finder = FileFinder(path)
        useful, passed = _useful(named, finder)
        by_part: dict[str, list[Table]] = {}
        for table in useful:
            if part := _part_in(table.path):
                by_part.setdefault(part, []).append(table)
        if "train" in by_part and len(by_part["train"]) == 1 and (len(by_part) > 1 or len(useful) == 1):
            return _parts(path, by_part, finder, passed)
        usual = [table for table in useful if _USUAL.fullmatch(table.path.stem.lower())]
        chosen = usual if len(usual) == 1 else useful
        if len(chosen) > 1:
            listed = ", ".join(printable(table.path.name) for table in chosen[:4])
            raise UserError(
                f"{place} holds several tables of images: {listed}. Give the one that is meant: --data "
                f"{chosen[0].path}; or name them after parts: train.csv, val.csv."
            )
        if chosen:
            left = [*passed, *(table.path.name for table in useful if table is not chosen[0])]
            return Tables(path, {"train": chosen[0]}, finder, notes=_not_used(left))
    return None


def _useful(named: Sequence[Path], finder: FileFinder) -> tuple[list[Table], list[str]]:
    """Tables that name images and anything besides; names of the others. Raises UserError for a table of a usual name
    that cannot be read."""
    useful, passed = [], []
    for path in named:
        try:
            table = read_table(path)
        except UserError:
            if finder.paths and (_USUAL.fullmatch(path.stem.lower()) or _part_in(path)):
                raise
            passed.append(path.name)
            continue
        if names_images(table, finder.has) and has_labels(table, finder.has):
            useful.append(table)
        else:
            passed.append(path.name)
    return useful, passed


def _parts(path: Path, by_part: Mapping[str, Sequence[Table]], finder: FileFinder, passed: list[str]) -> Tables:
    doubled = next((tables for tables in by_part.values() if len(tables) > 1), None)
    if doubled:
        names = " and ".join(printable(table.path.name) for table in doubled)
        raise UserError(f"{names} in {path} name the same part. Rename or remove one of them.")
    tables = {part: by_part[part][0] for part in PARTS if part in by_part}
    return Tables(path, tables, finder, notes=_not_used(passed))


def _not_used(names: Sequence[str]) -> tuple[str, ...]:
    return (f"Not used: {few([printable(name) for name in names])}: no table of images with labels.",) if names else ()


def _in_parts(path: Path) -> Tables | None:
    """FOLDER/train/metadata.csv and FOLDER/val/metadata.csv: paths are those below the part's folder."""
    tables, prefixes = {}, {}
    for part, names in parts_among(class_folders(path)).items():
        inside = [table for name in names for table in _tables_in(path / name) if _USUAL.fullmatch(table.stem.lower())]
        if len(inside) == 1:
            tables[part], prefixes[part] = read_table(inside[0]), f"{inside[0].parent.name}/"
    if "train" not in tables:
        return None
    finder = FileFinder(path)
    useful = {
        part: table
        for part, table in tables.items()
        if has_labels(table, lambda cell, part=part: finder.has(prefixes[part] + cell))
    }
    passed = [f"{prefixes[part]}{table.path.name}" for part, table in tables.items() if part not in useful]
    return Tables(path, useful, finder, prefixes, notes=_not_used(passed)) if "train" in useful else None


def _has_class_folders(path: Path) -> bool:
    top = class_folders(path)
    parts = [name for names in parts_among(top).values() for name in names]
    for root in (path, *(path / part for part in parts)):
        holding = [name for name in class_folders(root) if holds_images(root, name)]
        if len([name for name in holding if not part_of(name) and name.lower() not in _IMAGE_FOLDERS]) > 1:
            return True
    return False


def _unless_the_same(path: Path, found: Tables, config: TableConfig) -> Tables | None:
    """The tables, unless they say the same as the folders of the images. Raises UserError where they differ."""
    if not all(_USUAL.fullmatch(table.path.stem.lower()) or _part_in(table.path) for table in found.tables.values()):
        return None
    if config != AS_FOUND:
        return found
    reader = found.reader(config)
    rows = [row for of_part in reader.rows.values() for row in of_part]
    above = [posixpath.basename(posixpath.dirname(found.finder.find(row.file)[0])) for row in rows]
    folders = set(above) - {""}
    same = sum(row.labels == (folder,) for row, folder in zip(rows, above, strict=True))
    if same >= _AGREE * len(rows):
        return None
    name = next(iter(found.tables.values())).path
    raise UserError(
        f"{path} holds folders ({some(sorted(folders))}) and {name.name}, which say different things of the images' "
        f"classes. The table: --data {name}. The folders: --folders classes, or move the table away."
    )


def _flat(path: Path) -> Tables | None:
    """A folder (its one folder of images, its parts) whose file names start with the class."""
    top = class_folders(path)
    parts = {part: names[0] for part, names in parts_among(top).items() if len(names) == 1}
    inner = [name for name in top if name.lower() in _IMAGE_FOLDERS]
    if len(top) > max(len(parts), 1) or (len(top) == 1 and not parts and not inner):
        return None
    places = {part: f"{name}/" for part, name in parts.items()} or {"train": f"{inner[0]}/" if inner else ""}
    if "train" not in places or any(class_folders(path / place) for place in places.values() if place):
        return None
    finder = FileFinder(path)
    passed = finder.scan.passed
    if passed[".json"] or passed[".xml"] or passed[".txt"] > 1:
        return None  # annotations, it may be
    tables, counts, left = {}, {}, []
    for part, place in places.items():
        paths = sorted(one for one in finder.paths if one.startswith(place))
        found = classes_in_names(paths)
        if found and (part == "train" or set(found) <= set(counts)):
            counts = counts or found
            tables[part] = Table(path, {"file": list(paths), "class": [prefix_of(one) for one in paths]})
        elif paths:
            left.append(place.rstrip("/"))
    if "train" not in tables:
        return None
    listed = ", ".join(f"'{printable(name)}' {count:,}" for name, count in [*counts.items()][:10])
    more = ", ..." if len(counts) > 10 else ""
    said = f"The names of the files start with the class ({listed}{more}), which the number behind it shows."
    notes = (f"Not used: {some(left)}, whose names do not.",) if left else ()
    return Tables(path, tables, finder, notes=notes, said=said)
