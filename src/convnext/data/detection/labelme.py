"""LabelMe's annotations: a .json file beside each image.

{"imagePath": "a.jpg", "imageHeight": 480, "imageWidth": 640,
 "shapes": [{"label": "cat", "shape_type": "polygon", "points": [[x, y], ...], "group_id": null}, ...]}

Shapes of one group are one object, as for LabelMe's own conversion.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from convnext.core.errors import UserError
from convnext.core.text import printable
from convnext.data.detection.document import (
    MOST_PIXELS,
    Builder,
    Document,
    Place,
    beginning,
    ellipse,
    image_files,
    label_of,
    number_of,
    some_files,
)
from convnext.data.headers import header_size
from convnext.data.parts import folders_in, part_of
from convnext.data.problems import short
from convnext.data.strings import read_text

_START = 1 << 16
_MOST_BYTES = 200 << 20  # the image can be in it
_IMAGES = ("images", "imgs", "JPEGImages")
_LABELS = ("annotations", "labels", "json", "jsons")


def find(folder: Path) -> dict[str, Place]:
    """Part -> where it lies; {"train": ...} alone where there are no parts, {} where this is no such data."""
    found: dict[str, Place] = {}
    for inner in folders_in(folder):
        if (part := part_of(inner.name)) and (place := _place(inner)):
            found.setdefault(part, place)
    for images in (folder / name for name in _IMAGES):
        for inner in folders_in(images) if images.is_dir() else []:
            if (part := part_of(inner.name)) and (
                place := _place(inner, *(folder / name / inner.name for name in _LABELS))
            ):
                found.setdefault(part, place)
    if not found and (place := _place(folder)):
        found["train"] = place
    return found


def _place(folder: Path, *more: Path) -> Place | None:
    for images in (folder, *(folder / name for name in _IMAGES)):
        for labels in (images, *(folder / name for name in _LABELS), *more):
            if images.is_dir() and any(is_labelme(path) for path in some_files(labels, ".json", 5, deep=False)):
                return Place(images, labels)
    return None


def is_labelme(path: Path) -> bool:
    """Whether a .json file has LabelMe's words."""
    start = beginning(path, _START)
    return b'"shapes"' in start and (b'"imagePath"' in start or b'"points"' in start)


def read(place: Place) -> Document:
    """The objects of one part: polygons, rectangles, circles and masks; shapes of other kinds are counted."""
    builder, missing, files = Builder(), 0, set[Path]()
    paths = image_files(place)
    for path in paths:
        file = (place.labels / path).with_suffix(".json")
        files.add(file)
        if not is_labelme(file):
            missing += 1
            builder.image(path, header_size(place.images / path))
            continue
        content = _content(file)
        size = [content.get(key) for key in ("imageHeight", "imageWidth")]
        height, width = (side if isinstance(side, int) and side > 0 else 0 for side in size)
        known = (height, width) if height and width else header_size(place.images / path)
        number = builder.image(path, known)
        for shape in content.get("shapes") or []:
            _add(builder, number, shape, printable(file.name), known)
    if lonely := sum(1 for file in set(place.labels.rglob("*.json")) - files if is_labelme(file)):
        builder.leave_out(".json files without an image", lonely)
    notes = [f"{missing:,} of {len(paths):,} images have no .json file: images without objects."] if missing else []
    return builder.document(notes, where=place.labels)


def _content(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(file, most=_MOST_BYTES))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not JSON: {str(error)[:200]}.") from None
    if not isinstance(content, dict) or not isinstance(content.get("shapes") or [], list):
        raise UserError(f"{file} has no list of shapes, as LabelMe writes them.")
    return content


def _add(builder: Builder, image: int, shape: Any, where: str, size: tuple[int, int] | None) -> None:
    label = label_of(shape, "label") if isinstance(shape, dict) else ""
    points = shape.get("points") if isinstance(shape, dict) else None
    pairs = points if isinstance(points, list) else []
    numbers = [number_of(value) for pair in pairs for value in (pair if isinstance(pair, list) else [None])]
    values = [number for number in numbers if number is not None]
    if not label or len(values) != 2 * len(pairs) or len(values) != len(numbers):
        kind = "shapes without a label, or with points that are not pairs of numbers"
        builder.refuse(kind, f"{where}: {short(shape)}", image=image, points=values if len(values) % 2 == 0 else ())
        return
    kind, group = str(shape.get("shape_type") or "polygon"), shape.get("group_id")
    if kind == "polygon" and len(values) >= 6:
        builder.polygon(image, label, values, group="" if group is None else str(group)[:99], where=where)
    elif kind == "rectangle" and len(values) in (4, 8):
        xs, ys = values[::2], values[1::2]
        builder.box(image, label, (min(xs), min(ys), max(xs), max(ys)), where=where)
    elif kind == "circle" and len(values) == 4:
        radius = math.dist(values[:2], values[2:])
        builder.polygon(image, label, ellipse(values[0], values[1], radius, radius), where=where)
    elif kind == "mask" and size is not None and (inside := _mask(shape.get("mask"), values, size)) is not None:
        builder.mask(image, label, inside, where=where)
    else:
        builder.leave_out(f"{printable(kind)} shapes", image=image, points=values)


def _mask(text: Any, corners: list[float], size: tuple[int, int]) -> np.ndarray | None:
    """The pixels of a mask, bool (H, W): a PNG as text, that lies at the upper left of two corners; None for anything
    else."""
    if not isinstance(text, str) or len(corners) != 4 or min(corners) < 0 or size[0] * size[1] > MOST_PIXELS:
        return None
    left, top = int(min(corners[::2])), int(min(corners[1::2]))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(base64.b64decode(text)), formats=["PNG"]) as opened:
                if opened.height > size[0] or opened.width > size[1]:
                    return None
                part = np.asarray(opened.convert("L")) > 0
    except (OSError, ValueError, SyntaxError, binascii.Error, Image.DecompressionBombWarning):
        return None
    inside = np.zeros(size, dtype=bool)
    place = inside[top : top + part.shape[0], left : left + part.shape[1]]
    place[:] = part[: place.shape[0], : place.shape[1]]
    return inside
