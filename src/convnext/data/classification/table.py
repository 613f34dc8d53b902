"""Tables of images and their labels as files: csv, tsv, txt, jsonl, parquet; cells as text, or as lists of labels.

csv, tsv   one line names the columns (or none does: they are then called "column 1", ...); separated by comma,
           semicolon, tab or bar, whichever gives all lines the same number of cells
txt        as csv; else a path, then its label behind the last space
jsonl      one object a line
parquet    through pyarrow, polars or pandas, whichever is installed
"""

from __future__ import annotations

import ast
import csv
import functools
import importlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convnext.core.errors import UserError
from convnext.core.text import printable
from convnext.data.decode import IMAGE_SUFFIXES
from convnext.data.strings import read_text

Cell = str | tuple[str, ...]
"""Text, or the labels of a list."""
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
"""Endings of files that are looked at in a folder; a file that is named itself can be a .txt too."""
_MOST = 1 << 30  # bytes
_SEPARATORS = (",", ";", "\t", "|")
_SNIFFED = 50  # lines


@dataclass(frozen=True)
class Table:
    """A file's columns: name -> its cells, all of them as many."""

    path: Path
    columns: dict[str, list[Cell]]
    nested: frozenset[str] = frozenset()
    """Columns that hold objects, or lists of anything but labels: boxes, images themselves."""

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(next(iter(self.columns.values()), []))


def is_table(path: Path) -> bool:
    """Whether a file that was named is a table, by its ending."""
    return path.name.lower().endswith((*TABLE_SUFFIXES, ".txt"))


def read_table(path: Path) -> Table:
    """The table in a file; kept, as long as the file stays as it is.

    Raises UserError for a file that cannot be read, that is no table, or whose lines have other numbers of cells than
    its first.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    return _read(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=8)
def _read(path: Path, changed: int, size: int) -> Table:
    ending = path.suffix.lower()
    if not size:
        raise UserError(f"{path} is empty.")
    if ending == ".parquet":
        table = _of_records(path, _parquet(path))
    elif ending in (".jsonl", ".ndjson"):
        table = _of_records(path, _json_lines(path))
    else:
        table = _of_lines(path, read_text(path, most=_MOST))
    if not table.rows:
        raise UserError(f"{path} has no lines below its first, which names the columns.")
    return table


def _of_lines(path: Path, text: str) -> Table:
    rows = _rows(path, text)
    if path.suffix.lower() == ".txt" and all(len(row) == 1 for row in rows):
        rows = [row[0].rsplit(maxsplit=1) for row in rows]
    if not rows:
        raise UserError(f"{path} is empty.")
    width = len(rows[0])
    odd = next((number for number, row in enumerate(rows, 1) if len(row) != width), None)
    if odd is not None:
        raise UserError(
            f"{path}: row {odd} has {len(rows[odd - 1])} cells, and the first {width}. Put cells that hold the "
            'separator into quotes: "a,b".'
        )
    named = not any(cell.lower().endswith(IMAGE_SUFFIXES) for cell in rows[0])
    names = [cell if named and cell else f"column {i}" for i, cell in enumerate(rows[0], 1)]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise UserError(f"{path} has two columns '{printable(doubled)}'. Rename one of them.")
    body = rows[1:] if named else rows
    columns: dict[str, list[Cell]] = {name: [row[i] for row in body] for i, name in enumerate(names)}
    return Table(path, {name: _lists(cells) for name, cells in columns.items()})


def _rows(path: Path, text: str) -> list[list[str]]:
    """The rows of a file without those that are empty, cells without the spaces around them."""
    try:
        separator = "\t" if path.suffix.lower() == ".tsv" else _separator(text)
        reader = csv.reader(text.splitlines(keepends=True), delimiter=separator, strict=True, skipinitialspace=True)
        return [[cell.strip() for cell in row] for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise UserError(f"{path} is no table of text with separators ({error}). Repair or remove it.") from None


def _separator(text: str) -> str:
    """The separator that gives the first lines the same number of cells, the most of those that do."""
    lines = text[: 1 << 20].splitlines(keepends=True)[:_SNIFFED]
    widths: dict[str, tuple[bool, int]] = {}
    for separator in _SEPARATORS:
        rows = [row for row in csv.reader(lines, delimiter=separator, skipinitialspace=True) if row]
        counts = {len(row) for row in rows} or {1}
        widths[separator] = (len(counts) == 1 and counts != {1}, len(rows[0]) if rows else 1)
    return max(_SEPARATORS, key=lambda separator: widths[separator])


def _lists(cells: list[Cell]) -> list[Cell]:
    """Cells of text; where all that are not empty look like lists, as "['a', 'b']", those."""
    texts = [cell for cell in cells if cell]
    if not texts or not all(isinstance(cell, str) and cell.startswith("[") and cell.endswith("]") for cell in texts):
        return cells
    parsed = [_list_in(str(cell)) for cell in cells]
    return cells if None in parsed else [cell for cell in parsed if cell is not None]


def _list_in(text: str) -> Cell | None:
    """The labels of a list as JSON, Python or NumPy write it; "" for no text, None for anything else."""
    if not text:
        return ""
    spaced = re.search(r"""['"]\s+['"]""", text)  # NumPy's ['a' 'b'], which Python would join
    for read in () if spaced else (json.loads, ast.literal_eval):
        try:
            values = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        plain = isinstance(values, list) and all(isinstance(value, str | int) for value in values)
        return tuple(_text(value) for value in values) if plain else None
    words = re.findall(r"'([^']*)'|\"([^\"]*)\"|([^\s,\[\]]+)", text[1:-1])
    return tuple("".join(word) for word in words)


def _json_lines(path: Path) -> list[Any]:
    records = []
    for number, line in enumerate(read_text(path, most=_MOST).split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            raise UserError(f"{path}: line {number} is not JSON. Each line is one object.") from None
        if not isinstance(record, dict):
            raise UserError(f"{path}: line {number} is no object of JSON, as {{...}}.")
        records.append(record)
    return records


def _of_records(path: Path, records: Sequence[dict[str, Any]]) -> Table:
    names = list(dict.fromkeys(name for record in records for name in record))
    columns: dict[str, list[Cell]] = {name: [] for name in names}
    nested = set()
    for record in records:
        for name in names:
            value = record.get(name)
            if isinstance(value, dict | bytes) or (isinstance(value, list) and not _are_labels(value)):
                nested.add(name)
                value = None
            columns[name].append(tuple(_text(v) for v in value) if isinstance(value, list) else _text(value))
    return Table(path, columns, frozenset(nested))


def _are_labels(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str | int | float) for value in values)


def _text(value: Any) -> str:
    """A value as a table of text would have it."""
    if value is None or value != value:  # NaN, as parquet has it for nothing
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _parquet(path: Path) -> list[dict[str, Any]]:
    for library, read in (("pyarrow.parquet", "read_table"), ("polars", "read_parquet"), ("pandas", "read_parquet")):
        try:
            module = importlib.import_module(library)
        except ImportError:
            continue
        try:
            found = getattr(module, read)(str(path))
            if library == "pandas":
                return found.to_dict("records")
            return found.to_dicts() if library == "polars" else found.to_pylist()
        except ImportError:  # pandas without an engine
            continue
        except Exception as error:  # noqa: BLE001 - each library raises its own
            raise UserError(f"{path} cannot be read as parquet ({printable(str(error))[:200]}).") from None
    raise UserError(f"{path} is a parquet file, which takes a library to be read: pip install pyarrow.")
