"""CVAT's annotations "for images": one XML file for many.

<annotations><image name="a.jpg" width="640" height="480"><box label="cat" xtl= ytl= xbr= ybr=/>
<polygon label="cat" points="1,2;3,4;..."/><mask rle= left= top= width= height=/></image></annotations>
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from convnext.core.errors import UserError
from convnext.core.text import printable
from convnext.data.detection.document import MOST_PIXELS, Builder, Document, beginning, ellipse, label_of, number_of
from convnext.data.detection.xml_files import parsed

_START = 4096  # bytes; the first element has begun by then
_SUBSET = re.compile(rb'<image\b[^>]*\bsubset="([^"]*)"')
_MOST_RUNS = 10_000_000


def is_cvat(path: Path) -> bool:
    """Whether a file is CVAT's, by its beginning."""
    start = beginning(path, _START)
    return b"<annotations" in start and b"<annotation>" not in start


def subsets(path: Path) -> list[str]:
    """The parts that a file's images are said to belong to, sorted."""
    try:
        found = set(_SUBSET.findall(path.read_bytes()))
    except OSError:
        return []
    return sorted(name.decode("utf-8", "replace") for name in found)


def read(path: Path, subset: str = "") -> Document:
    """The objects of CVAT's file, or of one of its parts; shapes other than boxes, polygons, ellipses and masks are
    counted. A turned box becomes the box around it."""
    builder, turned, root = Builder(), 0, parsed(path)
    images = [image for image in root.iter("image") if not subset or image.get("subset") == subset]
    if not images and root.find("track") is not None:
        raise UserError(
            f"{path} holds tracks of a video, without its images. Export it as 'CVAT for images' or 'COCO'."
        )
    for image in images:
        size = _size(image)
        number = builder.image(image.get("name") or "", size)
        for shape in image:
            turned += _add(builder, number, shape, printable(image.get("name") or "?"), size)
    notes = [f"{turned:,} boxes are turned: the upright boxes around them are taken."] if turned else []
    return builder.document(notes, where=path)


def _size(image: ElementTree.Element) -> tuple[int, int] | None:
    height, width = (number_of(image.get(key)) or 0 for key in ("height", "width"))
    return (int(height), int(width)) if height >= 1 and width >= 1 else None


def _numbers(shape: ElementTree.Element, *keys: str) -> list[float]:
    """The values of some attributes; those that are no numbers are left out."""
    return [number for key in keys if (number := number_of(shape.get(key))) is not None]


def _points(shape: ElementTree.Element) -> list[float]:
    words = [word for pair in (shape.get("points") or "").split(";") for word in pair.split(",")]
    numbers = [number for word in words if (number := number_of(word)) is not None]
    return numbers if len(numbers) == len(words) and len(words) % 2 == 0 else []


def _add(builder: Builder, image: int, shape: ElementTree.Element, where: str, size: tuple[int, int] | None) -> bool:
    """Adds a shape; returns whether it is a turned box."""
    label, group, kind = label_of(shape.attrib, "label"), shape.get("group_id") or "", shape.tag
    corners, points = _numbers(shape, "xtl", "ytl", "xbr", "ybr"), _points(shape)
    angle = (_numbers(shape, "rotation") or [0.0])[0] % 360
    if kind == "tag":
        builder.leave_out("tags of whole images")
    elif kind == "box" and label and len(corners) == 4:
        x0, y0, x1, y1 = corners
        xs, ys = _turned([x0, x1, x1, x0], [y0, y0, y1, y1], (x0 + x1) / 2, (y0 + y1) / 2, angle)
        builder.box(image, label, (min(xs), min(ys), max(xs), max(ys)), where=where)
        return angle != 0
    elif kind == "polygon" and label and len(points) >= 6:
        builder.polygon(image, label, points, group=group if group != "0" else "", where=where)
    elif kind == "ellipse" and label and len(of := _numbers(shape, "cx", "cy", "rx", "ry")) == 4:
        points = ellipse(of[0], of[1], of[2], of[3])
        xs, ys = _turned(points[::2], points[1::2], of[0], of[1], angle)
        builder.polygon(image, label, [v for pair in zip(xs, ys, strict=True) for v in pair], where=where)
    elif kind == "mask" and label and size is not None and (inside := _mask(shape, size)) is not None:
        builder.mask(image, label, inside, where=where)
    elif kind in ("box", "polygon", "ellipse", "mask"):
        builder.refuse(f"shapes of the kind {kind} without a label or with numbers that are none", where)
    else:
        builder.leave_out(f"{kind} shapes", image=image, points=points)
    return False


def _turned(
    xs: Sequence[float], ys: Sequence[float], x: float, y: float, angle: float
) -> tuple[list[float], list[float]]:
    """Points, turned clockwise about (x, y) by an angle in degrees: their x, their y."""
    if not angle:
        return list(xs), list(ys)
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    pairs = [(a - x, b - y) for a, b in zip(xs, ys, strict=True)]
    return [x + a * cos - b * sin for a, b in pairs], [y + a * sin + b * cos for a, b in pairs]


def _mask(shape: ElementTree.Element, size: tuple[int, int]) -> np.ndarray | None:
    """The pixels of a brush's mask, bool (H, W): runs outside, inside, ..., row by row in its box; None for what is
    none."""
    words = (shape.get("rle") or "").split(",")
    box = _numbers(shape, "left", "top", "width", "height")
    if len(box) != 4 or len(words) > _MOST_RUNS or size[0] * size[1] > MOST_PIXELS:
        return None
    left, top, width, height = map(int, box)
    runs = [int(word) for word in words if word.strip().isdecimal() and len(word) < 12]
    fits = left >= 0 and top >= 0 and left + width <= size[1] and top + height <= size[0]
    if len(runs) != len(words) or not fits or sum(runs) != width * height:
        return None
    inside = np.zeros(size, dtype=bool)
    inside[top : top + height, left : left + width] = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(
        height, width
    )
    return inside
