"""The annotations of a file, checked one by one, and kept in a few arrays. M objects, R regions."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np

from convnext.core.text import printable
from convnext.data.detection import polygons
from convnext.data.detection.listed import ListedImages
from convnext.data.detection.polygons import Polygons
from convnext.data.problems import Problems, short

_FAR = 1e9  # beyond any image
_WITHOUT_AREA = ("boxes without area", "")
_THIN = 0.02  # pixels: less could be nothing, once the two sides are float32


class Objects:
    """The annotations of a file, checked one by one.

    crowds: whether iscrowd 1 means a crowd; else an object. crowds_are: what those are called.
    """

    def __init__(
        self, listed: ListedImages, categories: dict[int, int], problems: Problems, *, crowds: bool, crowds_are: str
    ) -> None:
        self.listed, self.categories, self.problems = listed, categories, problems
        self._crowds, self._crowds_are = crowds, crowds_are
        self.images, self.labels, self.crowds = array("q"), array("q"), array("b")
        self.areas, self._given, self._boxes = array("d"), array("d"), array("d")
        self.polygons = Polygons()
        self.outlined = array("b")
        self.region_images, self._regions = array("q"), array("f")
        self._cut = self._without_area = 0

    @property
    def given(self) -> np.ndarray:
        return np.array(self._given).reshape(-1, 4)

    @property
    def boxes(self) -> np.ndarray:
        return np.array(self._boxes, dtype=np.float32).reshape(-1, 4)

    @property
    def regions(self) -> np.ndarray:
        return np.array(self._regions, dtype=np.float32).reshape(-1, 4)

    @property
    def has_masks(self) -> bool:
        """Whether an object, other than a crowd, has an outline."""
        return any(outlined and not crowd for outlined, crowd in zip(self.outlined, self.crowds, strict=True))

    def add(self, entry: Any) -> None:
        """Takes an annotation if nothing is wrong with it, else notes what is."""
        if not isinstance(entry, dict):
            self.problems.add("annotations that are no objects of JSON", short(entry))
            return
        number = entry.get("image_id")
        if type(number) is int and number in self.listed.dropped:
            self.listed.lost += 1  # reported with its image
            return
        wrong = self._wrong(entry)
        if wrong == _WITHOUT_AREA:
            self._without_area += 1
        elif wrong:
            self._ignore(entry)
            kind, example = wrong
            where = entry.get("where") or f"{short(entry.get('id', 'without id'))} of image {short(number)}"
            self.problems.add(kind, f"{printable(str(where))}: {example}")

    def _wrong(self, entry: dict[str, Any]) -> tuple[str, str] | None:
        number, category = entry.get("image_id"), entry.get("category_id")
        if type(number) is not int or number not in self.listed.places:
            return "annotations of images that are not listed", "no such image"
        if type(category) is not int or category not in self.categories:
            return "annotations of unknown categories", f"category {short(category)}"
        crowd = entry.get("iscrowd", 0)
        if crowd not in (0, 1):
            return "annotations whose 'iscrowd' is neither 0 nor 1", short(crowd)
        place = self.listed.places[number]
        height, width = self.listed.sizes[place]
        given = entry.get("bbox")
        if not isinstance(given, list) or len(given) != 4 or not all(map(_is_number, given)):
            return "annotations whose 'bbox' is not four finite numbers (x, y, width, height)", short(given)
        x, y, w, h = given
        if w < 0 or h < 0:
            return "boxes of negative size", short(given)
        if w < _THIN or h < _THIN:
            return _WITHOUT_AREA
        x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
        if x1 - x0 < _THIN or y1 - y0 < _THIN:
            return "boxes outside of their image", f"{short(given)} in {width} x {height} pixels"
        given_polygons = entry.get("segmentation") or None  # [], as some tools write for boxes, is none
        wrong = "" if given_polygons is None else polygons.problem(given_polygons, height, width)
        if wrong:
            return "annotations whose 'segmentation' is malformed", wrong
        self._cut += x < -1 or y < -1 or x + w > width + 1 or y + h > height + 1  # a pixel: rounding
        self._take(place, self.categories[category], bool(crowd) and self._crowds, entry.get("area"))
        self._given.extend((x, y, w, h))
        self._boxes.extend((x0, y0, x1, y1))
        self.polygons.add(given_polygons)
        self.outlined.append(given_polygons is not None)
        return None

    def _ignore(self, entry: dict[str, Any]) -> None:
        """Keeps the box of an annotation that is left out, or that around its outline, as a region to ignore."""
        given = entry.get("bbox")
        if not isinstance(given, list) or len(given) != 4 or not all(map(_is_number, given)):
            given = polygons.bounds(entry.get("segmentation"))
        if given is not None:
            x, y, w, h = given
            self.ignore(entry.get("image_id"), min(x, x + w), min(y, y + h), max(x, x + w), max(y, y + h))

    def ignore(self, number: Any, x0: float, y0: float, x1: float, y1: float) -> None:
        """Keeps a part of an image as a region to ignore."""
        place = self.listed.places.get(number) if type(number) is int else None
        if place is None:
            return
        height, width = self.listed.sizes[place]
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
        if x1 - x0 > _THIN and y1 - y0 > _THIN:
            self.region_images.append(place)
            self._regions.extend((x0, y0, x1, y1))

    def _take(self, place: int, label: int, crowd: bool, area: Any) -> None:
        self.images.append(place)
        self.labels.append(label)
        self.crowds.append(crowd)
        self.areas.append(area if _is_number(area) and area > 0 else float("nan"))

    def notes(self, classes: Sequence[str]) -> list[str]:
        """How many boxes were left out or cut off, which objects teach less than others, which classes have none."""
        found = self._crowd_notes(classes)
        plain = len(self.crowds) - sum(self.crowds)
        bare = sum(1 for outlined, crowd in zip(self.outlined, self.crowds, strict=True) if not outlined and not crowd)
        if bare and self.has_masks:
            found.append(
                f"{bare:,} of {plain:,} objects have a box without an outline: they teach boxes and classes, not masks."
            )
        if self._without_area:  # COCO itself has some
            found.append(f"{self._without_area:,} boxes have no area; they are left out.")
        if self._cut:
            found.append(
                f"{self._cut:,} boxes reach more than a pixel beyond their image; they are cut off at its border."
            )
        if doubled := self._doubled():
            found.append(f"{doubled:,} objects are there twice: the same box of the same class in the same image.")
        return found

    def _crowd_notes(self, classes: Sequence[str]) -> list[str]:
        found, crowds, what = [], sum(self.crowds), self._crowds_are
        if crowds:
            found.append(f"{crowds:,} {what} are ignored, neither objects nor background; --crowds objects takes them.")
        pairs = set(zip(self.labels, map(bool, self.crowds), strict=True))
        alone = [name for label, name in enumerate(classes) if (label, True) in pairs and (label, False) not in pairs]
        none = [name for label, name in enumerate(classes) if not {(label, True), (label, False)} & pairs]
        if alone:
            found.append(f"Of {_some(alone)} there are {what} alone: nothing is learned of that.")
        if none:
            found.append(f"{len(none):,} of {len(classes):,} classes have no object: {_some(none)}.")
        return found

    def _doubled(self) -> int:
        """Objects that repeat another one, to a tenth of a pixel."""
        kept = ~np.array(self.crowds, dtype=bool)
        if not kept.any():
            return 0
        rows = np.column_stack([np.array(self.images), np.array(self.labels), np.round(self.given * 10)])[kept]
        return len(rows) - len(np.unique(rows, axis=0))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -_FAR < value < _FAR  # false for NaN too
