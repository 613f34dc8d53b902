"""A detector from its configuration, and what it costs. H W space."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from convnext.core.errors import UserError
from convnext.models.backbone import build_backbone
from convnext.models.detection.box_head import POOLED as BOX_SIDE
from convnext.models.detection.config import DetectorConfig
from convnext.models.detection.mask_head import POOLED as MASK_SIDE
from convnext.models.detection.rcnn import RCNN
from convnext.models.network import on_meta


def build_detector(config: DetectorConfig) -> RCNN:
    """The detector that a configuration says, with fresh weights, in float32 on the current default device.

    Raises UserError for a backbone that is unknown or has no four maps, and settings of stages that do not agree.
    """
    if config.num_classes < 1:
        raise UserError("A detector finds at least one kind of object: num_classes is 1 or more.")
    backbone = build_backbone(config.backbone)
    try:
        return RCNN(
            backbone,
            backbone.channels,
            backbone.strides,
            num_classes=config.num_classes,
            rpn=config.rpn,
            roi=config.roi,
            width=config.width,
            masks=config.masks,
        )
    except ValueError as error:
        raise UserError(str(error)) from None


def count_detector_macs(
    detector: RCNN, size: tuple[int, int] = (800, 1280), *, proposals: int = 1000, drawn: int = 100
) -> int:
    """Multiply-accumulates of convolutions and linear layers for one image of (H, W).

    Proposals go through every stage's box head, `drawn` of them through every mask head. These are the "FLOPs" of the
    paper's Table 3, at 800 x 1280. Only shapes are followed.
    """
    with torch.device("meta"):
        image = torch.empty(1, 3, *size)
        regions = torch.empty(proposals, detector.neck.width, BOX_SIDE, BOX_SIDE)
        polygons = torch.empty(drawn, detector.neck.width, MASK_SIDE, MASK_SIDE)
        labels = torch.zeros(drawn, dtype=torch.int64)
    counter, twin = FlopCounterMode(display=False), on_meta(detector)
    with torch.no_grad(), counter:
        twin.rpn_head(twin.maps(image))
        for box_head in twin.roi_head.box_stages:
            box_head(regions)
        for mask_head in twin.roi_head.mask_stages:
            mask_head(polygons, labels)
    return counter.get_total_flops() // 2
