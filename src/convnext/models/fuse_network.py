"""Folding a network for dense tasks for inference: its backbone's blocks, and its heads' batch norms.

C channels. A batch norm in evaluation scales and shifts channels; that goes into the convolution before it:
g (W x - m) / s + b = (g / s) W x + (b - g m / s).
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from convnext.models.fuse import fuse
from convnext.models.network import Network

N = TypeVar("N", bound=Network)


@torch.no_grad()
def fuse_network(network: N) -> N:
    """A copy of a detector or segmenter for inference, whose backbone is folded (`models.fuse`) and whose heads'
    convolutions have taken up the batch norms behind them. Outputs change by rounding alone.

    The copy shares no tensor with `network`, and does not load its state dict: load weights first, then fold.
    """
    fused = fuse(network)
    for module in fused.modules():
        if not isinstance(module, nn.Sequential):
            continue
        parts = dict(module.named_children())
        conv, norm = parts.get("conv"), parts.get("bn")
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            module.conv = fuse_conv_bn_eval(conv, norm)
            module.bn = nn.Identity()
    return fused
