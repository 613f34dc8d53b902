"""Accuracy of semantic segmentation: mean intersection over union, from counts that add up. K classes, H W space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from convnext.ops.losses import IGNORE_INDEX


@dataclass(frozen=True)
class SegmentationFigures:
    """The figures of a segmenter, each in 0..1; None where nothing was counted."""

    mIoU: float | None
    """Mean over classes of the intersection of true and predicted pixels divided by their union."""
    mAcc: float | None
    """Mean over classes of the share of a class's pixels that was predicted as it."""
    aAcc: float | None
    """Share of all pixels whose class was predicted."""
    per_class: list[dict[str, Any]]
    """For each class its "name", the number of its "pixels", "IoU" and "Acc"."""


def confusion(predicted: Tensor, truth: Tensor, num_classes: int) -> Tensor:
    """Counts pixels by true class (row) and predicted class (column): int64 (K, K), on the device of both.

    predicted, truth: uint8 (H, W); pixels whose truth is IGNORE_INDEX are left out.
    """
    known = truth != IGNORE_INDEX
    pairs = truth[known].long() * num_classes + predicted[known].long()
    return torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)


def segmentation_figures(counts: Tensor, classes: Sequence[str]) -> SegmentationFigures:
    """The figures of summed counts, int64 (K, K).

    A class that is neither in the data nor predicted anywhere has no IoU; one that is not in the data has no accuracy.
    The means leave them out (mmsegmentation's IoUMetric).
    """
    counts = counts.double()
    right, there, found = counts.diagonal(), counts.sum(1), counts.sum(0)
    ious, shares = right / (there + found - right), right / there
    rows = zip(classes, there.tolist(), ious.tolist(), shares.tolist(), strict=True)
    return SegmentationFigures(
        mIoU=_known(float(ious.nanmean())),
        mAcc=_known(float(shares.nanmean())),
        aAcc=_known(float(right.sum() / there.sum())),
        per_class=[
            {"name": name, "pixels": int(n), "IoU": _known(iou), "Acc": _known(share)} for name, n, iou, share in rows
        ],
    )


def _known(value: float) -> float | None:
    return None if value != value else value
