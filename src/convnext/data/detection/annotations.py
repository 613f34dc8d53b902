"""COCO's annotation files: read, checked, and kept in a few arrays.

    {"images": [{"id": 7, "file_name": "a.jpg", "width": 640, "height": 480}, ...],
     "categories": [{"id": 1, "name": "cat"}, ...],
     "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [x, y, width, height],
                      "segmentation": ..., "iscrowd": 0}, ...]}

Nothing in such a file is trusted. What is wrong is collected and reported at once, so that people repair a file once,
not a hundred times. N images, M objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from convnext.core.errors import UserError
from convnext.core.text import printable
from convnext.data.detection import coco_file, evidence
from convnext.data.detection.document import Document
from convnext.data.detection.listed import ListedImages, folder_of_images
from convnext.data.detection.normalise import normalised
from convnext.data.detection.objects import Objects
from convnext.data.detection.polygons import Polygons
from convnext.data.problems import Problems, is_id, short
from convnext.data.strings import Strings

Crowds = Literal["auto", "ignore", "objects"]


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
    outlined: np.ndarray
    """bool (M,): which have an outline."""
    polygons: Polygons
    """M of them; None for an object without an outline."""
    has_masks: bool
    """Whether there are objects with an outline."""
    regions: np.ndarray
    """float32 (R, 4): boxes of annotations that were left out, x0, y0, x1, y1: neither objects nor background."""
    region_images: np.ndarray
    """int64 (R,): which of the N images each region is in."""
    dropped: int
    """Images that are listed and left out, since something is wrong with them."""
    note: str
    """What people should know: what was left out, what was cut off; may be empty."""
    problems: str
    """All that is wrong in the file, as one summary for an error message; empty where nothing is."""


def read_annotations(
    path: Path,
    folders: Sequence[Path],
    *,
    max_pixels: int,
    document: Document | None = None,
    crowds: Crowds = "auto",
) -> Annotations:
    """Checks annotations in COCO's form, whose images lie in the first of the folders that has any of them.

    path: the file in COCO's form, or, with a `document` that was read already, what messages call it. crowds: what
    annotations with iscrowd 1 are: regions that are ignored, or objects; auto: ignored, unless half of all are crowds.
    Boxes that reach beyond their image are cut off at its border. Without any outline there are boxes only; with some,
    the objects without one have a box alone. Images and annotations that something is wrong with are left out:
    `problems` says all of it (what, how often, some examples), for callers who refuse such files, and `note` says what
    was left out, for those who go on without; where such an annotation has a box, that is a region to ignore.

    Raises UserError for a file that is not in this form, or has no image or no object that can be used, for crowds that
    are to be decided about, and for boxes that cannot be meant as they stand (`evidence`).
    """
    given = normalised(coco_file.read(path) if document is None else document)
    category_ids, classes = _categories(given.categories, path)
    problems = Problems(path)
    listed = ListedImages(folder_of_images(given.images, folders), problems, max_pixels)
    for entry in given.images:
        listed.add(entry)
    listed.check_headers()
    odd = evidence.check(given.annotations, listed, path)
    _check_crowds(given, path, crowds)
    objects = _objects(given, listed, category_ids, crowds=crowds != "objects")
    notes = [*given.notes, *listed.notes(), *odd, *objects.notes(classes)]
    if not listed.files or not len(objects.polygons):
        missing = "object" if listed.files else "image"
        raise UserError(f"{path} has no {missing} that can be used. {problems.text(listed.lost)}")
    return Annotations(
        path=path,
        root=listed.root,
        category_ids=category_ids,
        classes=classes,
        image_ids=np.array(listed.ids, dtype=np.int64),
        files=Strings(listed.files),
        sizes=np.array(listed.sizes, dtype=np.int64),
        images=np.array(objects.images, dtype=np.int64),
        labels=np.array(objects.labels, dtype=np.int64),
        given=objects.given,
        boxes=objects.boxes,
        areas=np.array(objects.areas),
        crowds=np.array(objects.crowds, dtype=bool),
        outlined=np.array(objects.outlined, dtype=bool),
        polygons=objects.polygons,
        has_masks=objects.has_masks,
        regions=objects.regions,
        region_images=np.array(objects.region_images, dtype=np.int64),
        dropped=len(listed.dropped),
        note="\n".join(filter(None, [problems.note(listed.lost), *notes])),
        problems=problems.text(listed.lost) if problems.found else "",
    )


def _objects(given: Document, listed: ListedImages, category_ids: Sequence[int], *, crowds: bool) -> Objects:
    places = {number: place for place, number in enumerate(category_ids)}
    objects = Objects(listed, places, listed.problems, crowds=crowds, crowds_are=given.crowds)
    for kind, example in given.wrong:
        listed.problems.add(kind, example)
    for entry in given.annotations:
        objects.add(entry)
    for number, region in given.regions:
        objects.ignore(number, *region)
    return objects


def _check_crowds(document: Document, path: Path, crowds: Crowds) -> None:
    """Raises UserError where it is to be decided what crowds are, since most annotations are, or where none is left."""
    entries, what = document.annotations, document.crowds
    marked = sum(1 for entry in entries if isinstance(entry, dict) and entry.get("iscrowd") == 1)
    if crowds == "auto" and marked and 2 * marked >= len(entries):
        raise UserError(
            f"{path} has {marked:,} {what} among {len(entries):,} annotations. Those are ignored in training, as "
            "regions of many objects, or of what cannot be told. Some tools mark single objects so, as all masks of a "
            "brush. Say what they are: --crowds objects takes them as objects like the others, --crowds ignore as "
            "regions to ignore."
        )
    if crowds == "ignore" and marked and marked == len(entries):
        raise UserError(
            f"All {marked:,} annotations of {path} are {what}: no object is left. --crowds objects takes them."
        )


def _categories(entries: list[Any], path: Path) -> tuple[tuple[int, ...], tuple[str, ...]]:
    names: dict[int, str] = {}
    for entry in entries:
        number = entry.get("id") if isinstance(entry, dict) else None
        name = entry.get("name") if isinstance(entry, dict) else None
        if isinstance(name, int | float) and not isinstance(name, bool):
            name = str(name)  # a class called 7
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
