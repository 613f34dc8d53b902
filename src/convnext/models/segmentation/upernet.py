"""UPerNet's heads (arXiv 1807.10221): a class for every pixel, from the four maps of a backbone.

B images, C channels, H W space, K classes. Names are those of the official segmentation checkpoints: `decode_head`,
`auxiliary_head`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convnext.models.detection.fpn import named_conv
from convnext.ops.resize_conv import conv_of_resized


class UPerHead(nn.Module):
    """Pools the coarsest map at several scales, merges all maps from coarse to fine, and classifies the finest.

    Args:
        channels: of the backbone's maps, fine to coarse.
        num_classes: K.
        width: channels of the merged maps.
        scales: sides of the pooled maps.
        dropout: probability that a channel is dropped before the classifier.
    """

    def __init__(
        self,
        channels: Sequence[int],
        num_classes: int,
        *,
        width: int = 512,
        scales: Sequence[int] = (1, 2, 3, 6),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        *fine, coarse = channels
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(scale), named_conv(coarse, width, 1, norm=True, act=True))
            for scale in scales
        )
        self.bottleneck = named_conv(coarse + len(scales) * width, width, 3, norm=True, act=True)
        self.lateral_convs = nn.ModuleList(named_conv(c, width, 1, norm=True, act=True) for c in fine)
        self.fpn_convs = nn.ModuleList(named_conv(width, width, 3, norm=True, act=True) for _ in fine)
        self.fpn_bottleneck = named_conv(len(channels) * width, width, 3, norm=True, act=True)
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = nn.Conv2d(width, num_classes, 1)
        self.as_published = False
        """Whether maps are merged as the paper has it, all resized first (what published costs count), instead of each
        at its own size: the same function, at a third of the work."""
        init_segmentation_head(self)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, channels[i], H_i, W_i) to logits (B, K, H_0, W_0)."""
        coarse = maps[-1]
        pooled = [resized(module(coarse), coarse) for module in self.psp_modules]
        merged = [conv(x) for conv, x in zip(self.lateral_convs, maps[:-1], strict=True)]
        merged.append(self.bottleneck(torch.cat([coarse, *pooled], dim=1)))
        for i in range(len(merged) - 1, 0, -1):
            merged[i - 1] = merged[i - 1] + resized(merged[i], merged[i - 1])
        outs = [conv(x) for conv, x in zip(self.fpn_convs, merged[:-1], strict=True)]
        outs.append(merged[-1])
        return self.conv_seg(self.dropout(self._bottleneck(outs)))

    def _bottleneck(self, maps: Sequence[Tensor]) -> Tensor:
        """All maps, resized to the finest, through one convolution: by far the largest work of the head."""
        if self.as_published:
            return self.fpn_bottleneck(torch.cat([maps[0], *(resized(x, maps[0]) for x in maps[1:])], dim=1))
        conv, *rest = self.fpn_bottleneck.children()
        assert isinstance(conv, nn.Conv2d)
        weights = conv.weight.split([x.shape[1] for x in maps], dim=1)
        merged = F.conv2d(maps[0], weights[0], conv.bias, padding=1)
        for x, weight in zip(maps[1:], weights[1:], strict=True):
            merged += conv_of_resized(x, weight, (maps[0].shape[2], maps[0].shape[3]))
        for layer in rest:
            merged = layer(merged)
        return merged


class FCNHead(nn.Module):
    """One convolution and a classifier: the auxiliary head, which helps in training alone.

    Args:
        channels: of the map.
        num_classes: K.
        width: channels of the convolution.
        dropout: probability that a channel is dropped before the classifier.
    """

    def __init__(self, channels: int, num_classes: int, *, width: int = 256, dropout: float = 0.1) -> None:
        super().__init__()
        self.convs = nn.Sequential(named_conv(channels, width, 3, norm=True, act=True))
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = nn.Conv2d(width, num_classes, 1)
        init_segmentation_head(self)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to logits (B, K, H, W)."""
        return self.conv_seg(self.dropout(self.convs(x)))


def init_segmentation_head(head: nn.Module) -> None:
    """Kaiming's weights for convolutions, small normal ones for the classifier `conv_seg`."""
    for name, module in head.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.Conv2d) and name.endswith("conv_seg"):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(cast("Tensor", module.bias))
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def resized(x: Tensor, like: Tensor) -> Tensor:
    """A map as large as another."""
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)
