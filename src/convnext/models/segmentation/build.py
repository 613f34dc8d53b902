"""A segmenter from its configuration, and what it costs. H W space."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from convnext.core.errors import UserError
from convnext.models.backbone import build_backbone
from convnext.models.network import on_meta
from convnext.models.segmentation.config import SegmenterConfig
from convnext.models.segmentation.encoder_decoder import EncoderDecoder
from convnext.models.segmentation.linear_head import LinearHead
from convnext.models.segmentation.mlp_head import MLPHead
from convnext.models.segmentation.upernet import FCNHead, UPerHead
from convnext.ops.losses import MAX_CLASSES


def build_segmenter(config: SegmenterConfig) -> EncoderDecoder:
    """The segmenter that a configuration says, with fresh weights, in float32 on the current default device.

    Raises UserError for a backbone that is unknown or has no four maps, and for too few or too many classes.
    """
    if not 2 <= config.num_classes <= MAX_CLASSES:
        raise UserError(f"A segmenter tells 2 to {MAX_CLASSES} classes apart, not {config.num_classes}.")
    backbone = build_backbone(config.backbone)
    channels, classes = backbone.channels, config.num_classes
    if config.head == "upernet":
        head = UPerHead(channels, classes, width=config.width, dropout=config.dropout)
    elif config.head == "mlp":
        head = MLPHead(channels, classes, width=config.width, dropout=config.dropout)
    else:
        head = LinearHead(channels, classes, dropout=config.dropout)
    auxiliary = None
    if config.auxiliary_width:
        auxiliary = FCNHead(channels[-2], classes, width=config.auxiliary_width, dropout=config.dropout)
    return EncoderDecoder(backbone, head, auxiliary, num_classes=classes, frozen=config.frozen)


def count_segmenter_macs(segmenter: EncoderDecoder, size: tuple[int, int] = (512, 2048)) -> int:
    """Multiply-accumulates of convolutions and linear layers for one image of (H, W), without the auxiliary head.

    These are the "FLOPs" of the paper's Table 4, at 512 x 2048 (ImageNet-1K) and 640 x 2560 (22K), of UPerNet as it was
    published: here its maps are merged with less (`UPerHead.as_published`). Only shapes are followed.
    """
    counter, twin = FlopCounterMode(display=False), on_meta(segmenter)
    if isinstance(twin.decode_head, UPerHead):
        twin.decode_head.as_published = True
    with torch.no_grad(), counter:
        twin(torch.empty(1, 3, *size, device="meta"))
    return counter.get_total_flops() // 2
