"""LabelMe's annotations: a .json file beside each image.

{"imagePath": "a.jpg", "imageHeight": 480, "imageWidth": 640,
 "shapes": [{"label": "cat", "shape_type": "polygon", "points": [[x, y], ...]}, ...]}
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from convnext.core.errors import UserError
from convnext.core.text import printable
from convnext.data.detection.document import Builder, Document, image_files, label_of, number_of
from convnext.data.headers import header_size
from convnext.data.parts import part_of
from convnext.data.strings import read_text

_START = 1 << 16
_MOST_BYTES = 200 << 20  # the image can be in it
_CORNERS = 32  # of the polygon that stands for a circle


def find(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Part -> its folders of images and of .json files; {"train": ...} alone where there are no parts, {} where this is
    no such data."""
    for images in (folder, *(folder / name for name in ("images", "imgs", "JPEGImages"))):
        for labels in (images, *(folder / name for name in ("annotations", "labels", "json", "jsons"))):
            if images.is_dir() and _has_labels(labels):
                return {"train": (images, labels)}
    found: dict[str, tuple[Path, Path]] = {}
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        if (part := part_of(inner.name)) and _has_labels(inner):
            found.setdefault(part, (inner, inner))
    return found


def _has_labels(folder: Path) -> bool:
    return folder.is_dir() and any(is_labelme(path) for path in sorted(folder.glob("*.json"))[:5])


def is_labelme(path: Path) -> bool:
    """Whether a .json file has LabelMe's words."""
    try:
        with path.open("rb") as file:
            start = file.read(_START)
        return b'"shapes"' in start and (b'"imagePath"' in start or b'"points"' in start)
    except OSError:
        return False


def read(images: Path, labels: Path) -> Document:
    """The objects of one part: polygons, rectangles and circles; shapes of other kinds are counted."""
    builder, missing = Builder(), 0
    there = image_files(images)
    for stem, path in there.items():
        file = labels / f"{stem}.json"
        if not (file.is_file() and is_labelme(file)):
            missing += 1
            builder.image(path.as_posix(), header_size(images / path))
            continue
        content = _content(file)
        size = [content.get(key) for key in ("imageHeight", "imageWidth")]
        height, width = (side if isinstance(side, int) and side > 0 else 0 for side in size)
        known = (height, width) if height and width else header_size(images / path)
        number = builder.image(path.as_posix(), known)
        for shape in content.get("shapes") or []:
            _add(builder, number, shape, file)
    lonely = {path.stem for path in labels.glob("*.json") if is_labelme(path)} - {Path(stem).name for stem in there}
    if lonely:
        builder.left_out[".json files without an image"] += len(lonely)
    notes = ["Boxes and polygons are read as LabelMe's."]
    if missing:
        notes.append(f"{missing:,} images have no .json file: images without objects.")
    return builder.document(notes, where=labels)


def _content(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(file, most=_MOST_BYTES))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not JSON: {str(error)[:200]}.") from None
    if not isinstance(content, dict) or not isinstance(content.get("shapes") or [], list):
        raise UserError(f"{file} has no list of shapes, as LabelMe writes them.")
    return content


def _add(builder: Builder, image: int, shape: Any, file: Path) -> None:
    if not isinstance(shape, dict):
        raise UserError(f"{file} has a shape that is no object of JSON.")
    label, kind = label_of(shape, "label"), str(shape.get("shape_type") or "polygon")
    points = shape.get("points")
    pairs = points if isinstance(points, list) else []
    numbers = [number_of(value) for pair in pairs for value in (pair if isinstance(pair, list) else [None])]
    if not label or None in numbers or len(numbers) != 2 * len(pairs):
        raise UserError(f"{file} has a shape without a label, or with points that are not pairs of numbers.")
    values = [number or 0.0 for number in numbers]
    if kind == "polygon" and len(values) >= 6:
        builder.polygon(image, label, values)
    elif kind == "rectangle" and len(values) in (4, 8):
        xs, ys = values[::2], values[1::2]
        builder.box(image, label, (min(xs), min(ys), max(xs), max(ys)))
    elif kind == "circle" and len(values) == 4:
        x, y, radius = values[0], values[1], math.dist(values[:2], values[2:])
        turns = [2 * math.pi * i / _CORNERS for i in range(_CORNERS)]
        builder.polygon(image, label, [v for t in turns for v in (x + radius * math.cos(t), y + radius * math.sin(t))])
    else:
        builder.left_out[f"{printable(kind)} shapes"] += 1
