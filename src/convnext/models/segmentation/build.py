"""A segmenter from its configuration, and what it costs. H W space."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from convnext.core.errors import UserError
from convnext.models.backbone import build_backbone, check_network_name
from convnext.models.network import on_meta
from convnext.models.segmentation.config import SEGMENTERS, SegmenterConfig, segmenter_config
from convnext.models.segmentation.encoder_decoder import EncoderDecoder
from convnext.models.segmentation.linear_head import LinearHead
from convnext.models.segmentation.mlp_head import MLPHead
from convnext.models.segmentation.upernet import FCNHead, UPerHead
from convnext.ops.losses import MAX_CLASSES


def create_segmenter(name: str, *, num_classes: int, in_chans: int = 3, drop_path_rate: float = 0.0) -> EncoderDecoder:
    """Builds the segmenter `name`, untrained, in float32 on the current default device.

    Args:
        name: a head (upernet; mlp, SegFormer's; linear, on a frozen backbone), an underscore, and a backbone: a
            ConvNeXt, a ResNet or a Swin, as upernet_convnext_tiny.
        num_classes: classes of pixels, 2 to 255 (ADE20K has 150).
        in_chans: channels of the images.
        drop_path_rate: stochastic depth of the backbone's last block.

    `build_segmenter` takes a configuration with every setting.

    Raises:
        UserError: for an unknown name (the nearest are offered), or too few or too many classes.
    """
    check_network_name(name, SEGMENTERS, what="segmenter")
    config = segmenter_config(name, num_classes=num_classes)
    backbone = replace(config.backbone, in_chans=in_chans, drop_path_rate=drop_path_rate)
    return build_segmenter(replace(config, backbone=backbone))


def build_segmenter(config: SegmenterConfig) -> EncoderDecoder:
    """The segmenter that a configuration says, newly initialised, in float32 on the current default device.

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
