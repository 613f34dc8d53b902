"""What every reader of annotations gives: lists in COCO's form, and what people should know of them.

{"images": [{"id": 7, "file_name": "a.jpg", "width": 640, "height": 480}, ...],
 "categories": [{"id": 1, "name": "cat"}, ...],
 "annotations": [{"image_id": 7, "category_id": 1, "bbox": [x, y, width, height], "segmentation": ...}, ...]}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convnext.core.errors import UserError
from convnext.core.text import printable
from convnext.data.decode import IMAGE_SUFFIXES


@dataclass
class Document:
    """Annotations as they were read; nothing in them is checked yet."""

    images: list[Any]
    annotations: list[Any]
    categories: list[Any]
    notes: list[str] = field(default_factory=list)
    """Sentences for people: what was left out, decided, normalised."""


class Builder:
    """A document that is put together from files in another form: classes are numbered in the order of their names,
    unless they are given."""

    def __init__(self, classes: Sequence[str] | None = None) -> None:
        self.names = None if classes is None else list(classes)
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.left_out: Counter[str] = Counter()
        """Shapes and files that are not taken: kind -> how many."""

    def image(self, file_name: str, size: tuple[int, int] | None) -> int:
        """Adds an image, of height and width where they are known; returns its number."""
        entry: dict[str, Any] = {"id": len(self.images), "file_name": file_name}
        if size is not None:
            entry |= {"height": size[0], "width": size[1]}
        self.images.append(entry)
        return len(self.images) - 1

    def box(self, image: int, label: str, box: tuple[float, float, float, float], *, crowd: bool = False) -> None:
        """Adds a box as x0, y0, x1, y1."""
        x0, y0, x1, y1 = box
        self.annotations.append(
            {"image_id": image, "label": label, "bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": int(crowd)}
        )

    def polygon(self, image: int, label: str, points: Sequence[float]) -> None:
        """Adds an outline: x0, y0, x1, y1, ..."""
        self.annotations.append({"image_id": image, "label": label, "segmentation": [list(points)]})

    def document(self, notes: Sequence[str] = (), *, where: Path) -> Document:
        """The whole. Raises UserError where no object has been added."""
        used = {entry["label"] for entry in self.annotations}
        names = sorted(used) if self.names is None else self.names
        if not names:
            raise UserError(f"{where} has no object that can be used{self._left_out('; left out: ')}.")
        numbers = {name: number for number, name in enumerate(names, 1)}
        annotations = [
            {**{key: value for key, value in entry.items() if key != "label"}, "category_id": numbers[entry["label"]]}
            for entry in self.annotations
        ]
        said = [*notes, *([f"Left out of {where}: {self._left_out()}."] if self.left_out else [])]
        categories = [{"id": number, "name": name} for name, number in numbers.items()]
        return Document(self.images, annotations, categories, said)

    def _left_out(self, before: str = "") -> str:
        kinds = ", ".join(f"{count:,} {printable(kind)}" for kind, count in self.left_out.most_common(6))
        return f"{before}{kinds}" if kinds else ""


def image_files(folder: Path) -> dict[str, Path]:
    """The images below a folder: path without its ending, with forward slashes -> path below the folder."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file():
            below = path.relative_to(folder)
            found.setdefault(below.with_suffix("").as_posix(), below)
    return found


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
