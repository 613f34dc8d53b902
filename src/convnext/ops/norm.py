"""LayerNorm over channels, for both layouts that a ConvNet meets.

B batch, C channels, H W space. Statistics are float32 whatever the activation's type: the official channels-first norm
squares in half precision and overflows at activations above 256 (fp16's largest value is 65,504).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm(nn.LayerNorm):
    """LayerNorm over the last dimension of (..., C). torch's kernel keeps its statistics in float32."""

    def __init__(self, dim: int, *, eps: float = 1e-6) -> None:
        super().__init__(dim, eps=eps)


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, H, W), for the stem, the downsampling layers and dense feature maps."""

    def __init__(self, dim: int, *, eps: float = 1e-6) -> None:
        super().__init__(dim, eps=eps)

    def forward(self, input: Tensor) -> Tensor:
        # A channels_last tensor is (B, H, W, C) in memory: both permutes are views and nothing is copied.
        x = input.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)
