"""Names of classes for people: from `classes.csv` or `classes.txt`, inside the dataset's folder or beside it.

    classes.csv   columns wnid (or folder) and simple_name (or name), perhaps index; commas, quotes, a header
    classes.txt   class folders:   n01440764 tench      (the folder's name, then a space, tab or comma, then the name)
                  class numbers:   line i names class i

Both are optional, and nothing but display depends on them: training never sees a name.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from convnext.core.errors import UserError
from convnext.core.text import printable

_KEYS = ("wnid", "folder", "class")
_NAMES = ("simple_name", "name")


def names_of_folders(folders: Sequence[str], root: Path) -> tuple[str, ...]:
    """The display name of each class folder, in the same order; the folder's own name where none is given.

    Looks for classes.csv and classes.txt inside `root` and in the folder above. Two classes of one name (ImageNet has
    two cranes) get their folder's name added: the result has no doubles. Raises UserError for an unreadable file.
    """
    table = _table(root)
    names = [printable(table.get(folder, folder)) for folder in folders]
    # doubles are looked for in the whole table, so that a class is called the same in every part of the data
    double = Counter(table.values()) + Counter(folder for folder in folders if folder not in table)
    return tuple(
        f"{name} ({printable(folder)})" if double[table.get(folder, folder)] > 1 else name
        for folder, name in zip(folders, names, strict=True)
    )


def names_of_numbers(root: Path) -> tuple[str, ...] | None:
    """Display names by class number, from classes.txt (line i) or classes.csv (row i, or its column `index`).

    Looks inside `root` and in the folder above; None where there is no such file. A double name gets its number added.
    Raises UserError for an unreadable file, or an index column that is not 0..K-1.
    """
    file = _find(root)
    if file is None:
        return None
    names = _csv_by_number(file) if file.suffix == ".csv" else [line for line in _lines(file) if line]
    double = Counter(names)
    return tuple(printable(f"{name} ({i})" if double[name] > 1 else name) for i, name in enumerate(names)) or None


def _find(root: Path) -> Path | None:
    places = [folder / name for folder in (root, root.absolute().parent) for name in ("classes.csv", "classes.txt")]
    return next((place for place in places if place.is_file()), None)


def _table(root: Path) -> dict[str, str]:
    """Class folder -> name, as the file says."""
    file = _find(root)
    if file is None:
        return {}
    if file.suffix == ".csv":
        rows, columns = _rows(file)
        key = next((column for column in _KEYS if column in columns), None)
        return {row[key]: _name(row) for row in rows if row[key]} if key else {}
    table = {}
    for line in _lines(file):
        # a tab separates even where folders' names have spaces
        parts = line.split("\t", 1) if "\t" in line else re.split(r"[\s,]+", line, maxsplit=1)
        if len(parts) == 2 and parts[1].strip() and not (root / line).is_dir():  # "golden retriever" can be a folder
            table[parts[0].strip()] = parts[1].strip()
    return table


def _csv_by_number(file: Path) -> list[str]:
    rows, columns = _rows(file)
    if "index" not in columns:
        return [_name(row) for row in rows]
    by_number = {row["index"].strip(): _name(row) for row in rows}
    missing = [str(i) for i in range(len(rows)) if str(i) not in by_number]
    if missing:
        raise UserError(f"{file}: the column 'index' should count 0..{len(rows) - 1}; {missing[0]} is missing.")
    return [by_number[str(i)] for i in range(len(rows))]


def _rows(file: Path) -> tuple[list[dict[str, str]], list[str]]:
    reader = csv.DictReader(_lines(file), restval="", restkey="")
    try:
        rows, columns = list(reader), list(reader.fieldnames or [])
    except csv.Error as error:
        raise UserError(f"{file} is not a table of comma-separated values ({error}). Repair or remove it.") from None
    if not any(column in columns for column in _NAMES):
        wanted = "a first line such as 'wnid,name'"
        raise UserError(f"{file} needs {wanted}; its first line names {printable(', '.join(columns)) or 'nothing'}.")
    return rows, columns


def _name(row: dict[str, str]) -> str:
    return next((row[column].strip() for column in _NAMES if row.get(column, "").strip()), "?")


def _lines(file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise UserError(f"{file} is not UTF-8 text. Save it as UTF-8, or remove it: it only names classes.") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from None
