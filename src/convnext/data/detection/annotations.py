"""COCO's annotation files: read, checked, and kept in a few arrays.

    {"images": [{"id": 7, "file_name": "a.jpg", "width": 640, "height": 480}, ...],
     "categories": [{"id": 1, "name": "cat"}, ...],
     "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [x, y, width, height],
                      "segmentation": ..., "iscrowd": 0}, ...]}

Nothing in such a file is trusted. What is wrong is collected and reported at once, so that people repair a file once,
not a hundred times. N images, M objects.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convnext.core.errors import UserError
from convnext.core.text import printable
from convnext.data.detection import polygons
from convnext.data.detection.listed import ListedImages, folder_of_images
from convnext.data.detection.polygons import Polygons
from convnext.data.problems import Problems, is_id, short
from convnext.data.strings import Strings

_FAR = 1e9  # beyond any image
_WITHOUT_AREA = ("boxes without area", "")
_THIN = 0.02  # pixels: less could be nothing, once the two sides are float32
_WITHOUT_POLYGON = "annotations without 'segmentation', where others have one"


@dataclass(frozen=True)
class Annotations:
    """What a file says about its images, the M objects in the file's order."""

    path: Path
    root: Path
    """The folder of the images."""
    category_ids: tuple[int, ...]
    """Ascending; the position is the class index."""
    classes: tuple[str, ...]
    image_ids: np.ndarray
    """int64 (N,)."""
    files: Strings
    """N paths below `root`."""
    sizes: np.ndarray
    """int64 (N, 2): height and width."""
    images: np.ndarray
    """int64 (M,): which of the N images each object is in."""
    labels: np.ndarray
    """int64 (M,): class indices."""
    given: np.ndarray
    """float64 (M, 4): boxes as the file has them, x, y, width, height."""
    boxes: np.ndarray
    """float32 (M, 4): x0, y0, x1, y1, cut off at the image's border."""
    areas: np.ndarray
    """float64 (M,): in pixels, as the file has them; NaN where it does not."""
    crowds: np.ndarray
    """bool (M,): regions of many objects, which are not examples to learn from."""
    polygons: Polygons
    """M of them."""
    has_masks: bool
    """Whether objects have polygons: all of them or none."""
    note: str
    """What people should know: what was left out, what was cut off; may be empty."""
    problems: str
    """All that is wrong in the file, as one summary for an error message; empty where nothing is."""


def read_annotations(path: Path, folders: Sequence[Path], *, max_pixels: int) -> Annotations:
    """Reads a file in COCO's form whose images lie in the first of the folders that has any of them.

    Boxes that reach beyond their image are cut off at its border. A file without any polygon gives boxes only.
    Images and annotations that something is wrong with are left out: `problems` says all of it (what, how often, some
    examples), for callers who refuse such files, and `note` says what was left out, for those who go on without.

    Raises UserError for a file that is not in this form, or has no image or no object that can be used.
    """
    document = _document(path)
    category_ids, classes = _categories(document["categories"], path)
    problems = Problems(path)
    root = folder_of_images(document["images"], folders)
    listed = ListedImages(root, problems, max_pixels)
    for entry in document["images"]:
        listed.add(entry)
    listed.check_headers()
    objects = _Objects(listed, {number: place for place, number in enumerate(category_ids)}, problems)
    for entry in document["annotations"]:
        objects.add(entry)
    del document
    kept, has_masks = objects.usable()
    if not listed.files or not len(kept):
        raise UserError(
            f"{path} has no {'object' if listed.files else 'image'} that can be used. {problems.text(listed.lost)}"
        )
    boxes, images = objects.boxes[kept], np.array(objects.images, dtype=np.int64)[kept]
    packed = objects.polygons
    if len(kept) < len(packed):
        packed = Polygons()
        for row in kept.tolist():
            packed.add(objects.polygons[row])
    return Annotations(
        path=path,
        root=root,
        category_ids=category_ids,
        classes=classes,
        image_ids=np.array(listed.ids, dtype=np.int64),
        files=Strings(listed.files),
        sizes=np.array(listed.sizes, dtype=np.int64),
        images=images,
        labels=np.array(objects.labels, dtype=np.int64)[kept],
        given=objects.given[kept],
        boxes=boxes,
        areas=np.array(objects.areas)[kept],
        crowds=np.array(objects.crowds, dtype=bool)[kept],
        polygons=packed,
        has_masks=has_masks,
        note=" ".join(filter(None, [problems.note(listed.lost), objects.note()])),
        problems=problems.text(listed.lost) if problems.found else "",
    )


def _document(path: Path) -> dict[str, list[Any]]:
    """The file's three lists."""
    form = "An annotation file in COCO's form is needed: an object with 'images', 'annotations' and 'categories'."
    try:
        document = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({str(error)[:200]}). {form}") from None
    if not isinstance(document, dict):
        raise UserError(f"{path} holds {short(document)}. {form}")
    for key in ("images", "annotations", "categories"):
        if not isinstance(document.get(key), list):
            what = f"a '{key}' that is not a list" if key in document else f"no '{key}'"
            raise UserError(f"{path} has {what}. {form}")
    return document


def _categories(entries: list[Any], path: Path) -> tuple[tuple[int, ...], tuple[str, ...]]:
    names: dict[int, str] = {}
    for entry in entries:
        number = entry.get("id") if isinstance(entry, dict) else None
        name = entry.get("name") if isinstance(entry, dict) else None
        if not is_id(number) or not isinstance(name, str) or not name:
            raise UserError(
                f"{path} has a category {short(entry)}. Each needs an 'id', a whole number of 0 or more, and a 'name'."
            )
        if number in names:
            raise UserError(
                f"{path} has two categories with the id {number}: {short(names[number])} and {short(name)}. Each "
                "needs an id of its own."
            )
        names[number] = printable(name)
    if not names:
        raise UserError(f"{path} has no categories. Each class of objects needs one, as {{'id': 1, 'name': 'cat'}}.")
    names = dict(sorted(names.items()))
    seen = list(names.values())
    unique = [name if seen.count(name) == 1 else f"{name} (id {number})" for number, name in names.items()]
    return tuple(names), tuple(unique)


class _Objects:
    """The annotations of a file, checked one by one."""

    def __init__(self, listed: ListedImages, categories: dict[int, int], problems: Problems) -> None:
        self.listed, self.categories, self.problems = listed, categories, problems
        self.images, self.labels, self.crowds = array("q"), array("q"), array("b")
        self.areas, self._given, self._boxes = array("d"), array("d"), array("d")
        self.polygons = Polygons()
        self._with_polygons = array("b")
        self._ids: set[int] = set()
        self._cut = self._without_area = 0

    @property
    def given(self) -> np.ndarray:
        return np.array(self._given).reshape(-1, 4)

    @property
    def boxes(self) -> np.ndarray:
        return np.array(self._boxes, dtype=np.float32).reshape(-1, 4)

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
            kind, example = wrong
            self.problems.add(kind, f"{short(entry.get('id', 'without id'))} of image {short(number)}: {example}")

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
        if "id" in entry and not self._is_new(entry["id"]):
            return "annotations whose 'id' is no whole number, or another one's too", short(entry["id"])
        self._cut += x < -1 or y < -1 or x + w > width + 1 or y + h > height + 1  # a pixel: rounding
        self._take(place, self.categories[category], bool(crowd), entry.get("area"))
        self._given.extend((x, y, w, h))
        self._boxes.extend((x0, y0, x1, y1))
        self.polygons.add(given_polygons)
        self._with_polygons.append(given_polygons is not None)
        return None

    def _is_new(self, number: Any) -> bool:
        if not is_id(number) or number in self._ids:
            return False
        self._ids.add(number)
        return True

    def _take(self, place: int, label: int, crowd: bool, area: Any) -> None:
        self.images.append(place)
        self.labels.append(label)
        self.crowds.append(crowd)
        self.areas.append(area if _is_number(area) and area > 0 else float("nan"))

    def usable(self) -> tuple[np.ndarray, bool]:
        """Rows int64 of the objects to keep, and whether they have polygons: where some have, those without go."""
        with_polygons, crowds = np.array(self._with_polygons, dtype=bool), np.array(self.crowds, dtype=bool)
        if not (with_polygons & ~crowds).any():
            return np.arange(len(with_polygons)), False
        for row in np.flatnonzero(~with_polygons).tolist():
            image = self.listed.ids[self.images[row]]
            self.problems.add(_WITHOUT_POLYGON, f"box {short(self._given[4 * row : 4 * row + 4].tolist())} of {image}")
        return np.flatnonzero(with_polygons), True

    def note(self) -> str:
        """How many boxes were left out or cut off; may be empty."""
        found = []
        if self._without_area:  # COCO itself has some
            found.append(f"{self._without_area:,} boxes have no area; they are left out.")
        if self._cut:
            found.append(
                f"{self._cut:,} boxes reach more than a pixel beyond their image; they are cut off at its border."
            )
        return " ".join(found)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -_FAR < value < _FAR  # false for NaN too
