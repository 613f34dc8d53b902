"""Images that a table lists with a class each, or with several labels (`table` says which files are accepted).

An image is uint8 (C, H, W); N images, K classes.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from convnext.core.errors import UserError, nearest
from convnext.core.text import printable
from convnext.data.classification.columns import (
    Roles,
    find_roles,
    is_true,
    labels_in,
    part_of_row,
    separator_of,
)
from convnext.data.classification.config import TableConfig
from convnext.data.classification.files import FileFinder, ImageFiles, found_how
from convnext.data.classification.names import names_of_folders, names_of_numbers
from convnext.data.classification.table import Cell, Table
from convnext.data.headers import survey

_EXAMPLES = 3


@dataclass(frozen=True)
class Row:
    """An image as a table has it: what it says of the file, and its labels."""

    file: str
    labels: tuple[str, ...]


class TableReader:
    """Tables of one data set: which rows each part has, and whether an image has a class or several labels.

    tables: part -> its table; a single one under "train" may hold all parts. root: the folder of the images. Raises
    UserError where the columns do not say what they mean.
    """

    def __init__(
        self,
        root: Path,
        tables: Mapping[str, Table],
        config: TableConfig,
        finder: FileFinder,
        *,
        prefixes: Mapping[str, str] | None = None,
        said: str = "",
    ) -> None:
        self.root, self.tables, self.config, self.finder, self.prefixes = root, tables, config, finder, prefixes or {}
        self.notes: list[str] = [said] if said else []
        self.roles = {part: find_roles(table, config, self._is_file(part)) for part, table in tables.items()}
        self.main = "train" if "train" in tables else next(iter(tables))
        first = self.roles[self.main]
        others = [part for part, roles in self.roles.items() if roles.labels != first.labels]
        if others:
            raise UserError(
                f"{tables[others[0]].path} and {tables[self.main].path} name their columns of classes differently. "
                "Call them the same."
            )
        self.sign, self.as_classes = self._meaning(first)
        if not said:
            self.notes += [self._said(table, self.roles[part]) for part, table in tables.items()]

    def _is_file(self, part: str) -> Callable[[str], bool]:
        return lambda cell: self.finder.has(self.prefixes.get(part, "") + cell)

    @property
    def several(self) -> bool:
        """Whether an image can have several labels."""
        return not self.as_classes

    @cached_property
    def rows(self) -> dict[str, list[Row]]:
        """Part -> its rows."""
        parts: dict[str, list[Row]] = {}
        left: Counter[str] = Counter()
        for part, table in self.tables.items():
            roles = self.roles[part]
            files = table.columns[roles.image]
            said: Sequence[Cell] = (
                table.columns[roles.part] if roles.part and len(self.tables) == 1 else [""] * len(files)
            )
            labels = self._labels(table, roles)
            for file, cell, of_row in zip(files, said, labels, strict=True):
                mine = part_of_row(roles.part, cell) if cell else part
                if cell and not mine:
                    left[str(cell)] += 1
                    continue
                parts.setdefault(mine, []).append(Row(self.prefixes.get(part, "") + str(file), of_row))
        if left:
            kinds = ", ".join(f"{count:,} of '{printable(kind)}'" for kind, count in left.most_common(4))
            self.notes.append(f"Left out: rows that are of no part known here: {kinds}.")
        return {part: parts[part] for part in ("train", "val", "test") if part in parts}

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """All classes, of the training part if there is one: in the order of columns, of numbers, else of letters."""
        roles = self.roles[self.main]
        if roles.binary:
            return roles.labels
        rows = self.rows.get("train") or next(iter(self.rows.values()))
        found = {label for row in rows for label in row.labels}
        return tuple(sorted(found, key=_number) if all(label.isdigit() for label in found) else sorted(found))

    def _meaning(self, roles: Roles) -> tuple[str | None, bool]:
        """How cells are split, and whether each image has exactly one class."""
        per_image = self.config.per_image
        if roles.binary:
            sums = [len(labels) for table in self.tables.values() for labels in self._labels(table, roles)]
            one = per_image == "one" or (per_image == "auto" and set(sums) == {1})
            if per_image == "one" and set(sums) != {1}:
                raise UserError(
                    f"{self.tables[self.main].path}: not every row has one 1 alone (--table.per-image one)."
                )
            if one and per_image == "auto":
                self.notes.append(
                    "Each row has one 1 alone: the columns are classes that exclude each other. Where they are labels "
                    "of which an image can have several: --table.per-image several."
                )
            return "", one
        name = roles.labels[0]
        cells = [cell for table in self.tables.values() for cell in table.columns[name]]
        sign = separator_of(self.tables[self.main].path, name, cells, self.config)
        return sign, sign is None

    def _labels(self, table: Table, roles: Roles) -> list[tuple[str, ...]]:
        if roles.binary:
            columns = [table.columns[name] for name in roles.labels]
            return [
                tuple(name for name, cell in zip(roles.labels, row, strict=True) if is_true(cell))
                for row in zip(*columns, strict=True)
            ]
        cells = table.columns[roles.labels[0]]
        if self.sign is not None:
            return [tuple(map(_composed, labels_in(cell, self.sign))) for cell in cells]
        values = [cell[0] if isinstance(cell, tuple) else cell for cell in cells]
        return [(_composed(value),) if value else () for value in _without_points(values)]

    def _said(self, table: Table, roles: Roles) -> str:
        """What was taken for what."""
        labels = f"labels in {len(roles.labels)} columns" if roles.binary else f"labels in '{roles.labels[0]}'"
        how = f", separated by '{self.sign}'" if self.sign else ""
        kind = "" if self.as_classes else "; an image can have several labels, or none"
        part = f", parts in '{roles.part}'" if roles.part and len(self.tables) == 1 else ""
        unused = f"; columns not used: {', '.join(roles.unused[:8])}" if roles.unused else ""
        more = ", ..." if len(roles.unused) > 8 else ""
        blank = self._blank(table, roles)
        empty = f"; {blank:,} empty cells count as 0" if blank else ""
        what = f"images in '{roles.image}', {labels}{how}{part}{kind}{empty}{unused}{more}"
        words = f"{table.path.name}: {table.rows:,} rows, {what}."
        return printable(words)

    @staticmethod
    def _blank(table: Table, roles: Roles) -> int:
        return sum(not cell for name in roles.labels for cell in table.columns[name]) if roles.binary else 0


class TableDataset(ImageFiles):
    """The images of one part of a table. `targets`: int64 (N,), or, where an image can have several labels, uint8
    (N, K). `notes` says what was left out and normalised.

    keys fixes which classes there are and their order. skip_bad: rows whose file is not there are left out, and said.
    Raises UserError for such rows, for a file with two classes, and for a class that `keys` does not have.
    """

    def __init__(
        self,
        reader: TableReader,
        part: str,
        *,
        max_pixels: int,
        keys: Sequence[str] | None = None,
        bands: int = 3,
        white: float = 0.0,
        skip_bad: bool = False,
    ) -> None:
        self.class_dirs = tuple(reader.labels if keys is None else keys)
        finder = reader.finder if bands == 3 else FileFinder(reader.root, bands=bands)
        labels, notes = _joined(reader, part, finder, skip_bad=skip_bad)
        paths = list(labels)
        super().__init__(reader.root, paths, max_pixels=max_pixels, bands=bands, white=white)
        self.classes = _names(self.class_dirs, reader.root)
        self.targets = _targets([labels[path] for path in paths], self.class_dirs, part, several=reader.several)
        spread = paths[:: max(len(paths) // 100, 1)]
        unseen = survey([reader.root / path for path in spread]) if bands == 3 else ""
        self.notes = (*notes, *([unseen] if unseen else []))


def _joined(
    reader: TableReader, part: str, finder: FileFinder, *, skip_bad: bool
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Path -> its labels, in the table's order; and what was left out, in sentences."""
    where = reader.tables.get(part, reader.tables[reader.main]).path
    found: dict[str, tuple[str, ...]] = {}
    how: Counter[str] = Counter()
    missing, unlabelled, again = [], 0, 0
    for row in reader.rows[part]:
        if not row.labels and not reader.several:
            unlabelled += 1
            continue
        path, way = finder.find(row.file, part=part)
        if not path:
            missing.append(row.file)
            continue
        how[way] += 1
        if path in found and set(found[path]) != set(row.labels):
            if reader.config.per_image != "several":
                _contradiction(where, path, found[path], row.labels)
            found[path] = tuple(dict.fromkeys((*found[path], *row.labels)))
        elif path in found:
            again += 1
        else:
            found[path] = row.labels
    if missing and (not skip_bad or not found):
        raise UserError(_missing(where, missing, finder, of=len(reader.rows[part])))
    rest = len(finder.paths) - len(found) if len(reader.rows) == 1 else 0
    none = sum(not labels for labels in found.values())
    notes = [
        found_how(how),
        f"Left out: {len(missing):,} rows of {where.name} whose image is not there." if missing else "",
        f"Left out: {unlabelled:,} rows of {where.name} without a class." if unlabelled else "",
        f"{again:,} rows of {where.name} list an image again." if again else "",
        f"{none:,} of the images in {where.name} have no label: none of the labels holds for them." if none else "",
        f"Left out: {rest:,} images below {reader.root} that {where.name} does not list." if rest else "",
    ]
    return found, [printable(note) for note in notes if note]


def _contradiction(where: Path, path: str, one: Sequence[str], other: Sequence[str]) -> None:
    raise UserError(
        f"{where} lists {printable(path)} with different labels: '{printable(', '.join(one))}' and "
        f"'{printable(', '.join(other))}'. Correct it; or, where each row is one of several labels: "
        "--table.per-image several."
    )


def _missing(where: Path, missing: Sequence[str], finder: FileFinder, *, of: int) -> str:
    some = ", ".join(f"'{printable(name)}'" for name in missing[:_EXAMPLES]) + (
        ", ..." if len(missing) > _EXAMPLES else ""
    )
    return (
        f"{where} lists {len(missing):,} of {of:,} images that are not below {finder.root}: {some}."
        f"{finder.hint(missing[0])} Put them there, or leave their rows out: --loader.skip-bad in `convnext train`, "
        "--skip-bad in `convnext evaluate`."
    )


def _targets(labels: Sequence[tuple[str, ...]], keys: Sequence[str], part: str, *, several: bool) -> Tensor:
    number = {key: i for i, key in enumerate(keys)}
    unknown = next((label for of_image in labels for label in of_image if label not in number), None)
    if unknown is not None:
        raise UserError(
            f"The part '{part}' has a class '{printable(unknown)}' that the training images do not have."
            f"{nearest(unknown, number)} Rename it in the table, or remove its rows."
        )
    if not several:
        return torch.tensor([number[of_image[0]] for of_image in labels], dtype=torch.int64)
    targets = torch.zeros((len(labels), len(keys)), dtype=torch.uint8)
    places = [(row, number[label]) for row, of_image in enumerate(labels) for label in of_image]
    if places:
        rows, columns = zip(*places, strict=True)
        targets[list(rows), list(columns)] = 1
    return targets


def _without_points(values: Sequence[str]) -> list[str]:
    """Class numbers as 1, where a table writes 1.0 (pandas does, in a column with empty cells)."""
    whole = all(value.removesuffix(".0").isdigit() for value in values if value)
    return [value.removesuffix(".0") for value in values] if whole else list(values)


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _names(keys: Sequence[str], root: Path) -> tuple[str, ...]:
    """Display names of classes: as classes.csv or classes.txt has them."""
    if all(key.isascii() and key.isdigit() for key in keys):
        names = names_of_numbers(root) or ()
        return tuple(names[int(key)] for key in keys) if max(map(int, keys)) < len(names) else tuple(keys)
    return names_of_folders(keys, root)


def _number(text: str) -> tuple[int, str]:
    return int(text), text
