"""A segmenter from its configuration, and what it costs. H W space."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from convnext.core.errors import UserError
from convnext.heads.upernet import UperNet
from convnext.models.features import build_maps
from convnext.networks.config import SegmenterConfig
from convnext.networks.cost import on_meta


def build_segmenter(config: SegmenterConfig) -> UperNet:
    """The segmenter that a configuration says, with fresh weights, in float32 on the current default device.

    Raises UserError for a backbone that is unknown or has no four maps.
    """
    if config.num_classes < 2:
        raise UserError("A segmenter tells at least two classes apart: num_classes is 2 or more.")
    backbone = build_maps(config.backbone)
    return UperNet(
        backbone,
        backbone.channels,
        num_classes=config.num_classes,
        width=config.width,
        auxiliary_width=config.auxiliary_width,
        dropout=config.dropout,
    )


def count_segmenter_macs(segmenter: UperNet, size: tuple[int, int] = (512, 2048)) -> int:
    """Multiply-accumulates of convolutions and linear layers for one image of (H, W), without the auxiliary head.

    These are the "FLOPs" of the paper's Table 4, at 512 x 2048 (ImageNet-1K) and 640 x 2560 (22K). Only shapes are
    followed.
    """
    counter, twin = FlopCounterMode(display=False), on_meta(segmenter)
    with torch.no_grad(), counter:
        twin(torch.empty(1, 3, *size, device="meta"))
    return counter.get_total_flops() // 2
