"""What training a detector starts from where nobody names weights: a published detector, by device and data."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import replace

from convnext.core.device import pick_device
from convnext.data.dataset import DataModule
from convnext.data.detection.dataset import DetectionDataset
from convnext.tasks.detection.published import published
from convnext.tasks.detection.recipes import small_mask_rcnn
from convnext.tasks.detection.setup import FEW
from convnext.tasks.start import SMALL_SIDE, Start, Wish, from_photos, from_scratch, misfit, too_small
from convnext.weights.catalog import LICENCES

_OF_HEADS = {"width", "rpn.ratios", "rpn.anchor_scale"} | {
    f"roi.{name}" for name in ("ious", "stds", "weights", "convs", "fcs", "width", "class_agnostic", "mask_convs")
}
"""Settings with which the heads of published detectors do not fit."""
_SMALL, _LARGE = "mask_rcnn_convnext_tiny.fb_coco", "cascade_mask_rcnn_convnext_small.fb_coco"
_MANY = 2_000  # images, from which a GPU takes the large one


def start(data: DataModule[DetectionDataset], options: Mapping[str, str], wish: Wish) -> Start:
    """What training on this data best starts from."""
    plain = small_mask_rcnn()
    tolerant = replace(plain.loader, skip_bad=True)  # what is wrong is reported when training begins
    train = data.splits(tolerant, seed=plain.loop.seed).train
    side = int(statistics.median(train.sizes.amin(dim=1).tolist())) if len(train) else 0
    if side <= SMALL_SIDE:
        return too_small(side)
    if problem := misfit(wish, prefix="backbone."):
        return from_scratch(problem)
    needs, enough = f"about {FEW} images or more (here: {len(train)})", len(train) >= FEW
    gpu = pick_device().type != "cpu"
    why = (
        f"{len(train):,} images on a GPU"
        if gpu
        else "no GPU here, so the smallest; --init none trains a small detector in minutes"
    )
    why = "the backbone that was named" if wish.model else why
    preferred = published()[_LARGE if gpu and len(train) >= _MANY else _SMALL]
    model = wish.model or preferred.config.backbone.name
    alike = [row for row in published().values() if row.config.backbone.name == model]
    rows = [row for row in alike if LICENCES[row.licence] or not wish.commercial]
    if rows and not _OF_HEADS.intersection(wish.changed):
        row = preferred if preferred in rows else rows[0]
        return Start(row, f"trained on COCO's 80 kinds of objects; {why}", needs, enough)
    return from_photos(model, wish, f"for the backbone; {why}", needs=needs, enough=enough)
