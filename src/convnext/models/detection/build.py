"""A detector from its configuration, and what it costs. H W space."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from convnext.core.errors import UserError
from convnext.models.backbone import build_backbone, check_network_name
from convnext.models.detection.box_head import POOLED as BOX_SIDE
from convnext.models.detection.config import KINDS, DetectorConfig, detector_config
from convnext.models.detection.mask_head import POOLED as MASK_SIDE
from convnext.models.detection.rcnn import RCNN
from convnext.models.network import on_meta


def create_detector(name: str, *, num_classes: int, in_chans: int = 3, drop_path_rate: float = 0.0) -> RCNN:
    """Builds the detector `name`, untrained, in float32 on the current default device.

    Args:
        name: a head (mask_rcnn, cascade_mask_rcnn; faster_rcnn, which has no masks), an underscore, and a backbone: a
            ConvNeXt, a ResNet or a Swin, as mask_rcnn_convnext_tiny.
        num_classes: kinds of objects, 1 or more, without background (COCO has 80).
        in_chans: channels of the images.
        drop_path_rate: stochastic depth of the backbone's last block (paper section A.3: 0.4 for T, 0.6 for S).

    `build_detector` takes a configuration with every setting.

    Raises:
        UserError: for an unknown name (the nearest are offered), or fewer than one class.
    """
    check_network_name(name, KINDS, what="detector")
    config = detector_config(name, num_classes=num_classes)
    backbone = replace(config.backbone, in_chans=in_chans, drop_path_rate=drop_path_rate)
    return build_detector(replace(config, backbone=backbone))


def build_detector(config: DetectorConfig) -> RCNN:
    """The detector that a configuration says, newly initialised, in float32 on the current default device.

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
    detector: RCNN, size: tuple[int, int] = (800, 1280), *, proposals: int = 1000, masks: int = 100
) -> int:
    """Multiply-accumulates of convolutions and linear layers for one image of (H, W).

    Proposals go through every stage's box head, `masks` of them through every mask head. These are the "FLOPs" of the
    paper's Table 3, at 800 x 1280. Only shapes are followed.
    """
    with torch.device("meta"):
        image = torch.empty(1, 3, *size)
        regions = torch.empty(proposals, detector.neck.width, BOX_SIDE, BOX_SIDE)
        objects = torch.empty(masks, detector.neck.width, MASK_SIDE, MASK_SIDE)
        labels = torch.zeros(masks, dtype=torch.int64)
    counter, twin = FlopCounterMode(display=False), on_meta(detector)
    with torch.no_grad(), counter:
        twin.rpn_head(twin.maps(image))
        for box_head in twin.roi_head.box_stages:
            box_head(regions)
        for mask_head in twin.roi_head.mask_stages:
            mask_head(objects, labels)
    return counter.get_total_flops() // 2
