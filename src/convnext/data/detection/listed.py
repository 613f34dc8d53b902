"""The images that an annotation file lists: whether they are there, and as large as it says. N images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PureWindowsPath
from typing import Any

from convnext.core.errors import nearest
from convnext.core.text import printable
from convnext.data.detection.file_names import FileNames
from convnext.data.headers import header_size, sizes_differ
from convnext.data.problems import Problems, is_id, short

_HEADERS = 20_000  # images; of more than this many, sizes are compared when they are read, not when they are listed
_TRIED = 100  # images that are looked for in each folder, until one is there
_MOST = 1 << 53  # pixels of a side, so that no product of two is too much for a floating point number


class ListedImages:
    """The images of a file that nothing is wrong with; `problems` has the others, `dropped` their ids."""

    def __init__(self, root: Path, problems: Problems, max_pixels: int) -> None:
        self.root, self.problems, self.max_pixels = root, problems, max_pixels
        self.ids: list[int] = []
        self.files: list[str] = []
        self.sizes: list[tuple[int, int]] = []  # height and width
        self.places: dict[int, int] = {}  # id -> position in these lists
        self.dropped: set[int] = set()
        self.lost = 0  # annotations of dropped images
        self.renamed: list[tuple[str, str]] = []
        """Names that stand for files of another spelling."""
        self.measured = 0
        """Images whose sizes are not said."""
        self._seen: set[str] = set()
        self._folders: dict[str, frozenset[str]] = {}

    def add(self, entry: Any) -> None:
        """Takes an image if nothing is wrong with it, else notes what is."""
        if not isinstance(entry, dict):
            self.problems.add("images that are no objects of JSON", short(entry))
            return
        number = entry.get("id")
        if not is_id(number) or number in self.places or number in self.dropped:
            self.problems.add(
                "images whose 'id' is no whole number, or another one's too",
                f"{short(number)} ({short(entry.get('file_name'))})",
            )
            return
        wrong = self._wrong(number, entry)
        if wrong:
            self._drop(number, *wrong)

    def _wrong(self, number: int, entry: dict[str, Any]) -> tuple[str, str] | None:
        given = entry.get("file_name")
        if not isinstance(given, str):
            return f"images whose 'file_name' is not a path inside of {self.root}", short(given)
        name = given if _is_inside(given) and self._exists(given) else self.names.meant(given)
        if not name and not _is_inside(given):
            return f"images whose 'file_name' is not a path inside of {self.root}", short(given)
        if not name:
            hint = nearest(os.path.basename(given), [os.path.basename(path) for path in self.names.paths])
            return f"images that are not in {self.root}", f"{printable(given)}{hint}"
        if name != given:
            self.renamed.append((given, name))
        place = os.path.normpath(name)
        if place in self._seen:
            return "images whose file is listed twice", printable(name)
        self._seen.add(place)
        height, width = entry.get("height"), entry.get("width")
        if height is None or width is None or _is_zero(height) or _is_zero(width):
            size = header_size(self.root / name)
            self.measured += size is not None
            if size is None:
                return "images without 'width' and 'height' whose file does not say either", printable(name)
            height, width = size
        if not (_is_side(height) and _is_side(width)):
            return (
                "images whose 'width' and 'height' are not whole numbers above 0",
                f"{name}: {short([width, height])}",
            )
        if height * width > self.max_pixels:
            return (
                f"images of more than {self.max_pixels:,} pixels (--loader.max-pixels)",
                f"{printable(name)}: {short(width)} x {short(height)}",
            )
        self.places[number] = len(self.ids)
        self.ids.append(number)
        self.files.append(name)
        self.sizes.append((int(height), int(width)))
        return None

    def check_headers(self) -> None:
        """Drops the images that are not as large as the file says, unless they are too many to open all."""
        if len(self.files) > _HEADERS:
            return
        found = [header_size(self.root / name) for name in self.files]  # None: left to reading, which says why
        rows = list(zip(self.ids, self.files, self.sizes, found, strict=True))
        self.ids, self.files, self.sizes, self.places = [], [], [], {}
        for number, name, size, header in rows:
            if header is None or header == size:
                self.places[number] = len(self.ids)
                self.ids.append(number)
                self.files.append(name)
                self.sizes.append(size)
            else:
                words = sizes_differ(header, size, self.root / name)
                self._drop(number, "images of another size than the file says", f"{name}: {words}")

    def _drop(self, number: int, kind: str, example: str) -> None:
        self.dropped.add(number)
        self.problems.add(kind, printable(example))

    @cached_property
    def names(self) -> FileNames:
        """The images in the folder, by what other spellings of their names may mean."""
        return FileNames(self.root)

    def notes(self) -> list[str]:
        """Sentences for people: names that were matched to files of another spelling, sizes that were measured."""
        found = []
        if self.renamed:
            given, name = self.renamed[0]
            found.append(
                f"{len(self.renamed):,} file names were matched to files by their last part, letter case, percent "
                f"codes, Unicode form or slashes, as {short(given)} to {short(name)}."
            )
        if self.measured:
            found.append(f"{self.measured:,} images have no 'width' and 'height': they are read from the files.")
        return found

    def _exists(self, name: str) -> bool:
        folder, file = os.path.split(os.path.normpath(name))
        if folder not in self._folders:  # one listing for all its images: far faster than asking for each
            try:
                with os.scandir(self.root / folder) as entries:  # no pipe: reading it would wait for ever
                    self._folders[folder] = frozenset(entry.name for entry in entries if entry.is_file())
            except OSError:
                self._folders[folder] = frozenset()
        return file in self._folders[folder]


def folder_of_images(entries: list[Any], folders: Sequence[Path]) -> Path:
    """The first of the folders that has one of the first images; else the first that has one under another spelling of
    its name; the first folder where none has."""
    names = [entry.get("file_name") for entry in entries[:_TRIED] if isinstance(entry, dict)]
    texts = [name for name in names if isinstance(name, str)]
    inside = [name for name in texts if _is_inside(name)]
    there = [folder for folder in folders if any(os.path.isfile(folder / name) for name in inside)]
    if there:
        return there[0]
    known = ((folder, FileNames(folder)) for folder in folders if folder.is_dir())
    return next((folder for folder, files in known if any(files.meant(name) for name in texts)), folders[0])


def _is_zero(value: Any) -> bool:
    """Whether a side says nothing: 0, or not a number as pandas writes it."""
    return type(value) in (int, float) and (value == 0 or value != value)


def _is_side(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < _MOST and value % 1 == 0


def _is_inside(name: str) -> bool:
    """Whether a path stays in the folder it starts from, on any system."""
    parts = name.replace("\\", "/").split("/")
    if not name.strip() or "\0" in name or ".." in parts or os.path.isabs(name) or PureWindowsPath(name).anchor:
        return False
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return os.path.normpath(name) != "."
