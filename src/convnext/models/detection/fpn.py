"""Feature pyramid network (arXiv 1612.03144). B batch, C channels, H W space.

Names are those of the official detection checkpoints: `lateral_convs.0.conv`, `fpn_convs.0.conv`, ... They are why
torchvision's pyramid and RPN layers, which compute the same, do not stand here: theirs have other names.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn


class FPN(nn.Module):
    """Four maps of a backbone to five of equal channels, from fine to coarse; the last is every other pixel of the one
    before it (mmdetection's FPN with `num_outs=5`).

    Args:
        channels: of the backbone's maps.
        strides: of the backbone's maps, each twice the one before.
        width: channels of the maps that it gives.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], *, width: int = 256) -> None:
        super().__init__()
        self.width = width
        self.strides = [*strides, 2 * strides[-1]]
        self.lateral_convs = nn.ModuleList(named_conv(c, width, 1) for c in channels)
        self.fpn_convs = nn.ModuleList(named_conv(width, width, 3) for _ in channels)
        self.init_weights()

    def init_weights(self) -> None:
        """Xavier's uniform weights, biases 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(cast("Tensor", module.bias))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """(B, channels[i], H / s, W / s) for each stride s of the backbone to (B, width, ...) for each of `strides`."""
        merged = [conv(x) for conv, x in zip(self.lateral_convs, maps, strict=True)]
        for i in range(len(merged) - 1, 0, -1):
            merged[i - 1] = merged[i - 1] + F.interpolate(merged[i], size=merged[i - 1].shape[2:], mode="nearest")
        outs = [conv(x) for conv, x in zip(self.fpn_convs, merged, strict=True)]
        return [*outs, F.max_pool2d(outs[-1], 1, stride=2)]


def named_conv(channels: int, width: int, kernel: int, *, norm: bool = False, act: bool = False) -> nn.Sequential:
    """A convolution that keeps the map's size, named `conv`, and what may follow it: batch norm `bn`, ReLU.

    With a norm it has no bias (mmcv's ConvModule, whose names the checkpoints have).
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=not norm)
    if norm:
        layers["bn"] = nn.BatchNorm2d(width)
    if act:
        layers["act"] = nn.ReLU(inplace=True)
    return nn.Sequential(layers)
