"""Whether boxes and outlines can be meant as they stand: in COCO's form, pixels, x, y, width, height. B boxes.

What nearly all of them say is decided: such a file is refused, with the numbers. What many say is a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convnext.core.errors import UserError
from convnext.data.detection.listed import ListedImages
from convnext.data.detection.polygons import bounds
from convnext.data.problems import short

_LOOKED, _LOOKED_RUNS = 3000, 300  # annotations, spread over all; of those with runs, which take longer
_FAR = 1e9  # beyond any image
_MOST, _SOME = 0.9, 0.3  # shares of them: that speak for another form, that speak against this one
_FEW = 0.05  # share that is worth a warning
_SHARE = 1.02  # the largest share of a side, with rounding
_AGREE, _DISAGREE = 0.8, 0.5  # intersection over union of a box and its outline

Boxes = np.ndarray  # (B, 4)
_FORMS: dict[str, tuple[Callable[[Boxes], Boxes], str]] = {
    "corners, x0, y0, x1, y1": (
        lambda b: b,
        "Write width = x1 - x0 and height = y1 - y0 in their places",
    ),
    "corners with y first, y0, x0, y1, x1": (
        lambda b: b[:, [1, 0, 3, 2]],
        "Write x0, y0, x1 - x0 and y1 - y0",
    ),
    "centres, x, y of the centre, width, height": (
        lambda b: np.concatenate([b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2], axis=1),
        "Subtract half of the width from x, and half of the height from y",
    ),
    "boxes with y first, y, x, height, width": (
        lambda b: _corners(b[:, [1, 0, 3, 2]]),
        "Exchange x and y, and width and height",
    ),
}
"""What a box could be besides x, y, width, height: how it becomes x0, y0, x1, y1, and how a file is repaired."""


def check(entries: Sequence[Any], listed: ListedImages, path: Path) -> list[str]:
    """Warnings: what many boxes say against being meant as they stand, with numbers.

    Raises UserError where nearly all say that they are written in another form: as shares of the image's size, or one
    of `_FORMS`.
    """
    some = [entry for entry in entries[:: max(len(entries) // _LOOKED, 1)] if isinstance(entry, dict)]
    known = [entry for entry in some if _is_box(entry.get("bbox")) and _is_listed(entry.get("image_id"), listed)]
    if not known:
        return []
    boxes = np.array([entry["bbox"] for entry in known], dtype=np.float64)
    sizes = np.array([listed.sizes[listed.places[entry["image_id"]]] for entry in known], dtype=np.float64)
    rows, outlines = _outlines(known)
    _refuse_shares("boxes", boxes, sizes, path)
    if len(rows):
        _refuse_shares("outlines", outlines, sizes[rows], path)
    for words, (as_corners, repair) in _FORMS.items():
        fit = len(rows) and _fits(as_corners(boxes[rows]), boxes[rows], outlines)
        if fit or (words.startswith("corners, ") and _fits_borders(boxes, sizes)):
            raise UserError(
                f"The boxes of {path} look like {words}, as {short(known[0]['bbox'])}; COCO's form has x, y, width and "
                f"height. {repair}."
            )
    return _warnings(boxes, sizes, rows, outlines, known)


def _outlines(entries: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Which of some annotations have an outline, int64 (B,), and the boxes x, y, width, height around them."""
    rows, found, runs = [], [], 0
    for row, entry in enumerate(entries):
        outline = entry.get("segmentation")
        runs += isinstance(outline, dict)
        if isinstance(outline, dict) and runs > _LOOKED_RUNS:
            continue
        if (box := bounds(outline)) is not None and max(map(abs, box)) < _FAR:
            rows.append(row)
            found.append(box)
    return np.array(rows, dtype=np.int64), np.array(found, dtype=np.float64).reshape(-1, 4)


def _refuse_shares(what: str, boxes: np.ndarray, sizes: np.ndarray, path: Path) -> None:
    """Raises UserError for boxes x, y, width, height that all lie in 0..1."""
    if (
        boxes.min() >= 0
        and (boxes[:, :2] + boxes[:, 2:]).max() <= _SHARE
        and sizes.min() > 8
        and boxes[:, 2:].max() > 0
    ):
        example = [round(float(value), 4) for value in boxes[0]]
        raise UserError(
            f"All {what} of {path} lie in 0..1, as x, y, width, height {example}: shares of the image's size. COCO's "
            "form has pixels: multiply x and width by the image's width, y and height by its height."
        )


def _fits(corners: np.ndarray, boxes: np.ndarray, outlines: np.ndarray) -> bool:
    """Whether boxes fit their outlines in another form, x0, y0, x1, y1, and not as x, y, width, height."""
    true = _corners(outlines)
    return bool(
        (_overlap(corners, true) > _MOST).mean() >= _MOST and (_overlap(_corners(boxes), true) < _AGREE).mean() >= 0.5
    )


def _fits_borders(boxes: np.ndarray, sizes: np.ndarray) -> bool:
    """Whether all boxes lie in their images as two corners, while many reach beyond as x, y, width, height."""
    height, width = sizes.T
    ordered = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    inside = ordered & (boxes[:, 2] <= width + 1) & (boxes[:, 3] <= height + 1) & (boxes.min(axis=1) >= 0)
    return bool(len(boxes) >= 4 and inside.all() and _beyond(boxes, sizes).mean() >= _SOME)


def _beyond(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """bool (B,): which reach beyond their image as x, y, width, height."""
    height, width = sizes.T
    return (boxes[:, 0] + boxes[:, 2] > width + 1) | (boxes[:, 1] + boxes[:, 3] > height + 1)


def _warnings(
    boxes: np.ndarray, sizes: np.ndarray, rows: np.ndarray, outlines: np.ndarray, known: Sequence[Any]
) -> list[str]:
    found = []
    if len(rows):
        overlaps = _overlap(_corners(boxes[rows]), _corners(outlines))
        odd = np.flatnonzero(overlaps < _DISAGREE)
        if len(odd) >= _FEW * len(rows) and len(odd) > 1:
            row = int(odd[0])
            around = [round(value, 1) for value in outlines[row].tolist()]
            found.append(
                f"Warning: {len(odd):,} of {len(rows):,} boxes looked at disagree with their outlines, as "
                f"{short(known[int(rows[row])]['bbox'])} with one in {short(around)}: boxes and masks teach different "
                "things."
            )
    tiny = (boxes.max(axis=1) <= 1) & (boxes[:, 2:].min(axis=1) > 0) & (sizes.min(axis=1) > 8)
    if tiny.mean() >= _FEW:
        found.append(
            f"Warning: {int(tiny.sum()):,} of {len(boxes):,} boxes looked at lie in 0..1, as "
            f"{short(known[int(np.flatnonzero(tiny)[0])]['bbox'])}: they could be shares of the image's size, but are "
            "read as pixels."
        )
    beyond = _beyond(boxes, sizes)
    if beyond.mean() >= _SOME:
        found.append(
            f"Warning: {int(beyond.sum()):,} of {len(boxes):,} boxes looked at reach beyond their image, as "
            f"{short(known[int(np.flatnonzero(beyond)[0])]['bbox'])}: are they x, y, width and height in pixels "
            "of these images?"
        )
    return found


def _corners(boxes: np.ndarray) -> np.ndarray:
    """x, y, width, height to x0, y0, x1, y1."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union, row by row, of boxes x0, y0, x1, y1."""
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1) for boxes in (a, b)]
    return shared / np.maximum(areas[0] + areas[1] - shared, 1e-9)


def _is_listed(number: Any, listed: ListedImages) -> bool:
    return type(number) is int and number in listed.places


def _is_box(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) == 4 and all(type(v) in (int, float) and -_FAR < v < _FAR for v in value)
    )
