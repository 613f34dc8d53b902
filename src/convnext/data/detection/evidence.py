"""Whether boxes can be meant as they stand: COCO's are x, y, width and height in pixels. B boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convnext.core.errors import UserError
from convnext.data.detection.listed import ListedImages
from convnext.data.detection.polygons import bounds
from convnext.data.problems import short

_LOOKED = 3000  # annotations, spread over all
_FAR = 1e9  # beyond any image
_MOST, _SOME = 0.9, 0.3  # shares of them: that speak for another form, that speak against this one


def check(entries: Sequence[Any], listed: ListedImages, path: Path) -> None:
    """Raises UserError where nearly all boxes say that they are written in another form: as shares of the image's size,
    or as two corners."""
    some = [entry for entry in entries[:: max(len(entries) // _LOOKED, 1)] if isinstance(entry, dict)]
    known = [entry for entry in some if _is_box(entry.get("bbox")) and _is_listed(entry.get("image_id"), listed)]
    if not known:
        return
    boxes = np.array([entry["bbox"] for entry in known], dtype=np.float64)
    sizes = np.array([listed.sizes[listed.places[entry["image_id"]]] for entry in known], dtype=np.float64)
    if boxes.min() >= 0 and boxes.max() <= 1 and sizes.min() > 8 and boxes[:, 2:].max() > 0:
        raise UserError(
            f"All boxes of {path} lie in 0..1, as {short(known[0]['bbox'])}: shares of the image's size. COCO's form "
            "has pixels: multiply x and width by the image's width, y and height by its height."
        )
    outlines = [bounds(entry.get("segmentation")) for entry in known]
    if _as_corners_by_outlines(boxes, outlines) or _as_corners_by_borders(boxes, sizes):
        raise UserError(
            f"The boxes of {path} look like corners, x0, y0, x1, y1, as {short(known[0]['bbox'])}; COCO's form has x, "
            "y, width and height. Write width = x1 - x0 and height = y1 - y0 in their places."
        )


def _as_corners_by_outlines(boxes: np.ndarray, outlines: Sequence[list[float] | None]) -> bool:
    """Whether boxes fit their outlines as two corners and not as x, y, width, height."""
    rows = [row for row, outline in enumerate(outlines) if outline is not None]
    if not rows:
        return False
    true = _corners(np.array([outlines[row] for row in rows], dtype=np.float64))
    as_corners, as_sizes = _overlap(boxes[rows], true), _overlap(_corners(boxes[rows]), true)
    return bool((as_corners > _MOST).mean() >= _MOST and (as_sizes < 0.8).mean() >= 0.5)


def _as_corners_by_borders(boxes: np.ndarray, sizes: np.ndarray) -> bool:
    """Whether all boxes lie in their images as two corners, while many reach beyond as x, y, width, height."""
    height, width = sizes.T
    ordered = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    inside = ordered & (boxes[:, 2] <= width + 1) & (boxes[:, 3] <= height + 1) & (boxes.min(axis=1) >= 0)
    beyond = (boxes[:, 0] + boxes[:, 2] > width + 1) | (boxes[:, 1] + boxes[:, 3] > height + 1)
    return bool(len(boxes) >= 4 and inside.all() and beyond.mean() >= _SOME)


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
