"""The polygons of objects in COCO's three ways of writing them: checked, packed, drawn as masks.

    polygons          [[x0, y0, x1, y1, ...], ...]                         the union of the polygons
    runs              {"size": [height, width], "counts": [3, 5, ...]}     pixels outside, inside, outside, ..., column
                                                                           by column
    compressed runs   {"size": [height, width], "counts": "PPYo0..."}      the same in six bits a character

Everything is checked first. Only polygons are drawn by pycocotools; runs never reach its C code, which trusts its
input and writes where it should not.
H W space.
"""

from __future__ import annotations

import itertools
import json
from array import array
from typing import Any

import numpy as np

_LONGEST = 2_000_000  # pixels along one polygon: pycocotools takes 100 bytes for each


def problem(segmentation: Any, height: int, width: int) -> str:
    """What is wrong with an object's polygons or runs, in an image of height x width, in a few words; "": nothing."""
    if isinstance(segmentation, dict):
        return _runs_problem(segmentation, height, width)
    if not isinstance(segmentation, list):
        return "neither polygons nor runs"
    for polygon in segmentation:
        wrong = _polygon_problem(polygon, max(height, width))
        if wrong:
            return wrong
    return ""


def bounds(segmentation: Any) -> list[float] | None:
    """The box (x, y, width, height) around polygons or runs, whatever an annotation file has there; None for what is
    neither, or empty."""
    if isinstance(segmentation, dict):
        size = segmentation.get("size")
        if not (
            isinstance(size, list) and len(size) == 2 and all(type(side) is int and 0 < side < 1 << 20 for side in size)
        ):
            return None
        if size[0] * size[1] > _LONGEST * 100 or _runs_problem(segmentation, *size):
            return None
        inside = mask(segmentation, *size)
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        if not len(rows):
            return None
        return [float(v) for v in (columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0])]
    if not isinstance(segmentation, list) or not segmentation:
        return None
    try:
        numbers = [np.array(array("d", polygon)).reshape(-1, 2) for polygon in segmentation]
    except (TypeError, OverflowError, ValueError):
        return None
    points = np.concatenate(numbers)
    if not len(points) or not np.isfinite(points).all():
        return None
    (x0, y0), (x1, y1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return [x0, y0, x1 - x0, y1 - y0]


def _polygon_problem(polygon: Any, side: int) -> str:
    if not isinstance(polygon, list) or len(polygon) < 6:
        return "a polygon of fewer than 6 numbers"
    if len(polygon) % 2:
        return "a polygon of an odd number of numbers"
    try:
        numbers = array("d", polygon)
    except (TypeError, OverflowError):
        return "a polygon of something else than numbers"
    total = sum(numbers)
    if total - total != 0:  # not a number, or infinite, as soon as one of them is
        return "a polygon with numbers that are not finite"
    if min(numbers) < -side or max(numbers) > 2 * side:
        return "a polygon far outside of the image"
    if len(numbers) * 3 * side > 2 * _LONGEST:  # it could be that long: look more closely
        points = np.frombuffer(numbers).reshape(-1, 2)
        if np.abs(np.diff(points, axis=0, append=points[:1])).max(axis=1).sum() > _LONGEST:
            return "a polygon of millions of pixels"
    return ""


def _runs_problem(runs: dict[str, Any], height: int, width: int) -> str:
    if runs.get("size") != [height, width]:
        return "runs for an image of another size"
    counts = runs.get("counts")
    if isinstance(counts, str):
        lengths = _decompressed(counts)
    elif isinstance(counts, list) and all(type(count) is int and 0 <= count <= height * width for count in counts):
        lengths = np.array(counts, dtype=np.int64)
    else:
        lengths = None
    if lengths is None or (lengths < 0).any():
        return "runs that cannot be decoded"
    return "" if int(lengths.sum()) == height * width else "runs that do not fill the image"


def _decompressed(text: str) -> np.ndarray | None:
    """The lengths, int64, in pycocotools' compressed runs; None for text that is none.

    Each number in groups of five bits, the lowest first, the sixth bit says that another follows; from the fourth
    number on, what is written is the difference to the number two before. (cocoapi, maskApi.c, rleFrString.)
    """
    try:
        codes = np.frombuffer(text.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    except UnicodeEncodeError:
        return None
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        return None
    last = np.flatnonzero((codes & 32) == 0)  # where each number ends
    first = np.concatenate([[0], last[:-1] + 1])
    if (last - first).max() > 6:  # beyond 35 bits: no length that an image can have
        return None
    places = np.arange(len(codes)) - np.repeat(first, last - first + 1)
    values = np.add.reduceat((codes & 31) << (5 * places), first)
    negative = (codes[last] & 16) != 0
    values -= np.where(negative, 1 << (5 * (last - first + 1)), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])  # the very first one stands alone
    return values


def mask(segmentation: list[list[float]] | dict[str, Any], height: int, width: int) -> np.ndarray:
    """The pixels of an object, bool (H, W), as pycocotools draws them. For polygons without a `problem` only."""
    counts = segmentation["counts"] if isinstance(segmentation, dict) else _drawn(segmentation, height, width)
    lengths = _decompressed(counts) if isinstance(counts, str) else np.array(counts, dtype=np.int64)
    assert lengths is not None  # it has no problem
    inside = np.arange(len(lengths)) % 2 == 1
    return np.repeat(inside, lengths).reshape(width, height).T  # runs go down the columns


def _drawn(polygons: list[list[float]], height: int, width: int) -> str:
    """The union of polygons as compressed runs."""
    from pycocotools import mask as tools

    coco: Any = tools  # its annotations know less than its code takes
    return coco.merge(coco.frPyObjects(polygons, height, width))["counts"].decode()


class Polygons:
    """Many polygons in a few blocks of memory, which forked workers share with their parent (see `strings.Strings`).

    Polygons are numbers of 8 bytes, so that what is read is what was written; runs, which are rare, are JSON.
    """

    def __init__(self) -> None:
        self._numbers = array("d")
        self._ends = array("q", [0])  # of each polygon, in numbers
        self._polygons = array("q", [0])  # up to each object, in polygons
        self._text = bytearray()
        self._text_ends = array("q", [0])  # of each object

    def __len__(self) -> int:
        return len(self._polygons) - 1

    def add(self, segmentation: list[list[float]] | dict[str, Any] | None) -> None:
        """Appends the polygons or runs of an object, which have no `problem`, or None for an object without any."""
        if isinstance(segmentation, dict):
            kept = {"size": segmentation["size"], "counts": segmentation["counts"]}
            self._text += json.dumps(kept, separators=(",", ":")).encode()
        elif segmentation is not None:
            for polygon in segmentation:
                self._numbers.extend(array("d", polygon))
                self._ends.append(len(self._numbers))
        self._polygons.append(len(self._ends) - 1)
        self._text_ends.append(len(self._text))

    def __getitem__(self, index: int) -> list[list[float]] | dict[str, Any] | None:
        text = self._text[self._text_ends[index] : self._text_ends[index + 1]]
        if text:
            return json.loads(text)
        ends = self._ends[self._polygons[index] : self._polygons[index + 1] + 1]
        polygons = [self._numbers[a:b].tolist() for a, b in itertools.pairwise(ends)]
        return polygons or None
