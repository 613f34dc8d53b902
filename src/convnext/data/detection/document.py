"""What every reader of annotations gives: lists in COCO's form, and what people should know of them.

{"images": [{"id": 7, "file_name": "a.jpg", "width": 640, "height": 480}, ...],
 "categories": [{"id": 1, "name": "cat"}, ...],
 "annotations": [{"image_id": 7, "category_id": 1, "bbox": [x, y, width, height], "segmentation": ...}, ...]}
"""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from convnext.core.errors import UserError
from convnext.core.text import printable
from convnext.data.classification.scan import images_below

_FOLDERS = 50  # that are looked into, to know a form
MOST_PIXELS = 1 << 28  # of an image whose objects' pixels are written out
_CORNERS = 32  # of the polygon that stands for an ellipse


Box = tuple[float, float, float, float]


class Place(NamedTuple):
    """Where the images and the annotations of a part lie."""

    images: Path
    labels: Path
    names: tuple[str, ...] | None = None
    """Which images: paths below `images`, with or without their endings; None: all."""


@dataclass
class Document:
    """Annotations as they were read; nothing in them is checked yet."""

    images: list[Any]
    annotations: list[Any]
    categories: list[Any]
    notes: list[str] = field(default_factory=list)
    """Sentences for people: what was left out, decided, normalised."""
    wrong: list[tuple[str, str]] = field(default_factory=list)
    """What could not be read: kinds in the plural, an example of each."""
    regions: list[tuple[int, Box]] = field(default_factory=list)
    """Of images by their numbers, where something lies that is not taken: x0, y0, x1, y1."""
    crowds: str = "crowds (iscrowd 1)"
    """What annotations with iscrowd 1 are called."""


class Builder:
    """A document that is put together from files in another form: classes are numbered in the order of their names,
    unless they are given. Boxes are x0, y0, x1, y1, outlines x0, y0, x1, y1, ..., in pixels."""

    def __init__(self, classes: Sequence[str] | None = None) -> None:
        self._names = None if classes is None else list(classes)
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._groups: dict[tuple[int, str, str], dict[str, Any]] = {}
        self._left_out: Counter[str] = Counter()
        self._wrong: list[tuple[str, str]] = []
        self._regions: list[tuple[int, Box]] = []

    def image(self, file_name: str, size: tuple[int, int] | None) -> int:
        """Adds an image, of height and width where they are known; returns its number."""
        entry: dict[str, Any] = {"id": len(self._images), "file_name": file_name}
        if size is not None:
            entry |= {"height": size[0], "width": size[1]}
        self._images.append(entry)
        return len(self._images) - 1

    def box(self, image: int, label: str, box: Box, *, crowd: bool = False, where: str = "") -> None:
        """Adds a box. where: which line of which file, for messages."""
        x0, y0, x1, y1 = box
        entry = {"image_id": image, "label": label, "bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": int(crowd)}
        self._annotations.append(entry | {"where": where})

    def polygon(self, image: int, label: str, points: Sequence[float], *, group: str = "", where: str = "") -> None:
        """Adds an outline; those of one group in an image, of the same label, are one object."""
        entry = self._groups.get((image, label, group)) if group else None
        if entry is not None:
            entry["segmentation"].append(list(points))
            return
        entry = {"image_id": image, "label": label, "segmentation": [list(points)], "where": where}
        self._annotations.append(entry)
        if group:
            self._groups[image, label, group] = entry

    def mask(self, image: int, label: str, inside: np.ndarray, *, where: str = "") -> None:
        """Adds the pixels of an object, bool (H, W) of the image's size."""
        column_by_column = np.concatenate([[0], inside.T.ravel().astype(np.int8), [-1]])  # counting begins outside
        starts = np.flatnonzero(np.diff(column_by_column))
        counts = np.diff(np.concatenate([[0], starts])).tolist()
        runs = {"size": list(inside.shape), "counts": counts}
        self._annotations.append({"image_id": image, "label": label, "segmentation": runs, "where": where})

    def leave_out(self, kind: str, count: int = 1, *, image: int | None = None, points: Sequence[float] = ()) -> None:
        """Counts what is not taken. image, points: where it lies: neither an object nor background."""
        self._left_out[kind] += count
        self._ignore(image, points)

    def refuse(self, kind: str, example: str, *, image: int | None = None, points: Sequence[float] = ()) -> None:
        """Notes something that is wrong. kind: in the plural."""
        self._wrong.append((kind, example))
        self._ignore(image, points)

    def _ignore(self, image: int | None, points: Sequence[float]) -> None:
        if image is not None and len(points) >= 4:
            xs, ys = points[::2], points[1::2]
            self._regions.append((image, (min(xs), min(ys), max(xs), max(ys))))

    def document(self, notes: Sequence[str] = (), *, where: Path, crowds: str = "crowds") -> Document:
        """The whole. Raises UserError where no object has been added. crowds: what those boxes are called."""
        names = sorted({entry["label"] for entry in self._annotations}) if self._names is None else self._names
        if not names:
            kinds = self._kinds()
            wrong = "".join(f" {kind[0].upper()}{kind[1:]}: {example}." for kind, example in self._wrong[:1])
            raise UserError(f"{where} has no object that can be used{f'; left out: {kinds}' if kinds else ''}.{wrong}")
        numbers = {name: number for number, name in enumerate(names, 1)}
        annotations = [
            {**{key: value for key, value in entry.items() if key != "label"}, "category_id": numbers[entry["label"]]}
            for entry in self._annotations
        ]
        said = [*notes, *([f"Left out of {where}: {self._kinds()}."] if self._left_out else [])]
        categories = [{"id": number, "name": name} for name, number in numbers.items()]
        return Document(self._images, annotations, categories, said, self._wrong, self._regions, crowds)

    def _kinds(self) -> str:
        return ", ".join(f"{count:,} {printable(kind)}" for kind, count in self._left_out.most_common(6))


def image_files(place: Place) -> list[str]:
    """Paths of the images of a part below its folder of images, sorted; a name without a file stays as it is."""
    there = sorted(images_below(place.images, closed=[]))
    if place.names is None:
        return there
    known = set(there)
    by_stem = {path.rsplit(".", 1)[0]: path for path in reversed(there)}
    return [name if name in known else by_stem.get(name, name) for name in place.names]


def beginning(path: Path, most: int) -> bytes:
    """The first bytes of a file; none of what is no file, or cannot be read."""
    try:
        if not path.is_file():
            return b""  # opening a pipe would wait for ever
        with path.open("rb") as file:
            return file.read(most)
    except OSError:
        return b""


def some_files(folder: Path, suffix: str, most: int, *, deep: bool = True) -> list[Path]:
    """Some of the files in a folder with an ending (lower case), the first by name. deep: also in the first folders
    below it."""
    found: list[Path] = []
    for where, folders, names in itertools.islice(os.walk(folder), _FOLDERS if deep else 1):
        folders.sort()
        fitting = sorted(name for name in names if name.lower().endswith(suffix) and not name.startswith("."))
        found += [path for name in fitting[:most] if (path := Path(where, name)).is_file()]
        if len(found) >= most:
            break
    return found[:most]


def ellipse(x: float, y: float, rx: float, ry: float) -> list[float]:
    """The polygon that stands for an ellipse: its centre and half its width and height."""
    turns = [2 * math.pi * i / _CORNERS for i in range(_CORNERS)]
    return [v for turn in turns for v in (x + rx * math.cos(turn), y + ry * math.sin(turn))]


def number_of(value: Any) -> float | None:
    """A finite number, also one that is written as text; None for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if number - number == 0 else None


def label_of(values: Mapping[str, Any], *keys: str) -> str:
    """The first of some values that is a name; "" where none is."""
    return next((printable(str(values[key]).strip()) for key in keys if str(values.get(key) or "").strip()), "")
