"""Boxes: offsets between them, and their assignment to objects.

N boxes, G objects. Boxes are (x0, y0, x1, y1) in pixels, see `instances`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_LARGEST = math.log(1000 / 16)  # limit of the logarithm of a box's growth (mmdetection, DeltaXYWHBBoxCoder)

_AT_ONCE = 16  # regions

BACKGROUND, NEITHER = -1, -2


def encode(boxes: Tensor, targets: Tensor, stds: Sequence[float]) -> Tensor:
    """The offsets from boxes (N, 4) to targets (N, 4): (N, 4), in units of `stds`.

    They are the shift of the centre divided by width and height, and the logarithms of the ratios of widths and
    heights (arXiv 1311.2524, appendix C).
    """
    centre, side = _centre_side(boxes)
    target_centre, target_side = _centre_side(targets)
    offsets = torch.cat([(target_centre - centre) / side, (target_side / side).log()], dim=-1)
    return offsets / offsets.new_tensor(stds)


def decode(boxes: Tensor, offsets: Tensor, stds: Sequence[float], *, size: tuple[int, int] | None = None) -> Tensor:
    """The boxes at `offsets` (..., 4) from `boxes` (..., 4), in the same shape: the inverse of `encode`.

    Growth is limited to a factor of 62.5. size: (H, W) of an image, at whose borders the boxes are cut off.
    """
    offsets = offsets * offsets.new_tensor(stds)
    centre, side = _centre_side(boxes)
    centre = centre + offsets[..., :2] * side
    half = 0.5 * side * offsets[..., 2:].clamp(-_LARGEST, _LARGEST).exp()
    decoded = torch.cat([centre - half, centre + half], dim=-1)
    return decoded if size is None else clip(decoded, size)


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (..., 4) cut off at the borders of an image of (H, W)."""
    height, width = size
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return torch.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], dim=-1)


def _centre_side(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centres (..., 2) and sides (..., 2), x first."""
    return (boxes[..., :2] + boxes[..., 2:]) * 0.5, boxes[..., 2:] - boxes[..., :2]


def assign(overlaps: Tensor, *, positive: float, negative: float, best_from: float | None) -> Tensor:
    """Assigns boxes to objects: int64 (N,), the index of the object, BACKGROUND or NEITHER.

    overlaps: IoU of objects and boxes, (G, N). A box whose highest IoU is at least `positive` is assigned to that
    object; one below `negative`, to the background. best_from: the boxes with an object's highest IoU, if at least
    this, are assigned to it in any case (with several such objects, to the last); None: they are not. As mmdetection's
    MaxIoUAssigner.
    """
    objects, count = overlaps.shape
    if objects == 0 or count == 0:
        return torch.full((count,), BACKGROUND, dtype=torch.int64, device=overlaps.device)
    most, which = overlaps.max(dim=0)
    assigned = torch.full_like(which, NEITHER)
    assigned[most < negative] = BACKGROUND
    assigned = torch.where(most >= positive, which, assigned)
    if best_from is not None:
        highest = overlaps.amax(dim=1, keepdim=True)
        best = (overlaps == highest) & (highest >= best_from)
        numbers = torch.arange(objects, device=overlaps.device).unsqueeze(1)
        last = torch.where(best, numbers, -1).amax(dim=0)
        assigned = torch.where(last >= 0, last, assigned)
    return assigned


def spared(assigned: Tensor, boxes: Tensor, ignored: Tensor | None) -> Tensor:
    """What `assign` gave for boxes (N, 4), NEITHER in place of BACKGROUND where at least half of a box lies in a region
    to ignore, (R, 4). As mmdetection's `ignore_iof_thr` of 0.5."""
    if ignored is None or not len(ignored) or not len(boxes):
        return assigned
    shared = torch.zeros_like(boxes[:, 0])
    for some in ignored.split(_AT_ONCE):  # there can be many of both
        low, high = torch.maximum(boxes[:, None, :2], some[:, :2]), torch.minimum(boxes[:, None, 2:], some[:, 2:])
        shared = torch.maximum(shared, (high - low).clamp_min(0).prod(dim=2).amax(dim=1))
    inside = shared >= 0.5 * (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    return torch.where(inside & (assigned == BACKGROUND), NEITHER, assigned)


def sample(assigned: Tensor, *, count: int, positive_share: float) -> tuple[Tensor, Tensor]:
    """Samples at most `count` boxes: the ascending indices of boxes with objects, and those of background boxes.

    assigned: the result of `assign`. At most positive_share * count boxes have objects; background fills the rest.
    Draws from torch's global generator on the CPU.
    """
    positives = _some((assigned >= 0).nonzero().flatten(), int(count * positive_share))
    negatives = _some((assigned == BACKGROUND).nonzero().flatten(), count - len(positives))
    return positives, negatives


def _some(indices: Tensor, count: int) -> Tensor:
    if len(indices) <= count:
        return indices
    chosen = torch.randperm(len(indices))[:count].to(indices.device)
    return indices[chosen].sort().values
