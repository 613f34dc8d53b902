"""Linear probing: a class for every pixel from one linear layer.

B images, C channels, H W space, K classes. A 1x1 convolution and a bilinear resize may change places, so each map is
convolved at its own size and the results are resized and added, where the literature resizes, concatenates and then
convolves: the same function of the maps at a fraction of the work.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from convnext.models.segmentation.mlp_head import sum_resized


class LinearHead(nn.Module):
    """One linear layer on all maps, each behind a batch norm: what frozen features know of classes (linear probing, as
    DINOv2 has it, arXiv 2304.07193, section 7.4).

    Args:
        channels: of the backbone's maps, fine to coarse.
        num_classes: K.
        dropout: probability that a channel of the maps is dropped.
    """

    def __init__(self, channels: Sequence[int], num_classes: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) for c in channels)
        self.dropout = nn.Dropout2d(dropout)
        self.convs = nn.ModuleList(nn.Conv2d(c, num_classes, 1, bias=False) for c in channels)
        self.bias = nn.Parameter(torch.zeros(num_classes))
        self.init_weights()

    def init_weights(self) -> None:
        """Small normal weights; norms that change nothing."""
        nn.init.zeros_(self.bias)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
            elif isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, channels[i], H_i, W_i) to logits (B, K, H_0, W_0)."""
        layers = zip(self.norms, self.convs, maps, strict=True)
        logits = sum_resized([conv(self.dropout(norm(x))) for norm, conv, x in layers])
        return logits + self.bias[:, None, None]
