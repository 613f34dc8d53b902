"""Where the labels of an image's objects stand: at their boxes, inside of the image, apart from each other.

N objects; boxes are (x0, y0, x1, y1) in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_ON_LABELS, _ON_OBJECTS, _IN_ORDER = 6.0, 1.0, 0.02  # what it costs to hide a label, an object, to stand further back
_TOO_MUCH = 0.1  # of a label: when so much would be hidden, one that may be left out is
_ROOM = 8  # an object with so many times a label's area holds its label inside


def placed(
    boxes: np.ndarray, sizes: Sequence[tuple[int, int]], area: tuple[int, int], *, every: bool
) -> list[tuple[int, int] | None]:
    """The upper left corner of each label, (width, height) pixels each, in an image of `area` (width, height).

    The boxes, float (N, 4), are in the order of their importance: the first choose first. Each label takes the place at
    its box that hides the least of the labels there already and of all objects; unless `every` label has to stand, one
    that cannot but hide another is left out (None). No label leaves the image, unless it is larger than that.
    """
    corners: list[tuple[int, int] | None] = []
    taken = np.zeros((0, 4))
    for box, (width, height) in zip(boxes, sizes, strict=True):
        places = _places(box, width, height)
        places[:, 0] = places[:, 0].clip(0, max(area[0] - width, 0))
        places[:, 1] = places[:, 1].clip(0, max(area[1] - height, 0))
        places = places.round()
        rectangles = np.concatenate([places, places + np.array([width, height])], axis=1)
        cost = _IN_ORDER * np.arange(len(places))
        on_labels = _hidden(rectangles, taken)
        cost += _ON_LABELS * on_labels.sum(axis=1)
        cost += _ON_OBJECTS * _hidden(rectangles, boxes).sum(axis=1)
        best = int(cost.argmin())
        if not every and on_labels[best].max(initial=0.0) > _TOO_MUCH:
            corners.append(None)
            continue
        taken = np.concatenate([taken, rectangles[best : best + 1]])
        corners.append((int(places[best, 0]), int(places[best, 1])))
    return corners


def _places(box: np.ndarray, width: int, height: int) -> np.ndarray:
    """Upper left corners, float (P, 2), the best first: inside of a large object, around a small one."""
    x0, y0, x1, y1 = box.tolist()
    left, right, middle = x0, x1 - width, (x0 + x1 - width) / 2
    above, below, centre = y0 - height, y1, (y0 + y1 - height) / 2
    inside = [(left, y0), (right, y0), (left, y1 - height), (right, y1 - height)]
    around = [(left, above), (right, above), (left, below), (right, below), (x1, y0), (x0 - width, y0)]
    roomy = (x1 - x0) * (y1 - y0) > _ROOM * width * height and x1 - x0 > width
    first, second = (inside, around) if roomy else (around, inside)
    return np.array([*first, *second, (middle, above), (middle, below), (middle, centre)])


def _hidden(places: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(P, 4), (N, 4) -> which share of each other rectangle each place would cover, (P, N)."""
    low = np.maximum(places[:, None, :2], others[None, :, :2])
    high = np.minimum(places[:, None, 2:], others[None, :, 2:])
    sides = (others[:, 2:] - others[:, :2]).clip(1.0)  # an object without extent has at least a pixel
    return (high - low).clip(0.0).prod(axis=2) / sides.prod(axis=1)
