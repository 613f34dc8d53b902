"""Norms over channels, for both memory layouts of a ConvNet. B batch, C channels, H W space.

Statistics are float32 whatever the activations' type: the official channels-first norm squares in half precision and
overflows at activations above 256 (the largest float16 is 65,504).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NormOf = Callable[[int], nn.Module]
"""Makes a norm for a number of channels."""


class LayerNorm(nn.LayerNorm):
    """LayerNorm over the last dimension of (..., C). torch's kernel keeps its statistics in float32."""

    def __init__(self, dim: int, *, eps: float = 1e-6) -> None:
        super().__init__(dim, eps=eps)


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, H, W), for the stem, the downsampling layers and dense feature maps."""

    def __init__(self, dim: int, *, eps: float = 1e-6) -> None:
        super().__init__(dim, eps=eps)

    def forward(self, input: Tensor) -> Tensor:
        # A channels_last tensor is (B, H, W, C) in memory: both permutes are views, so nothing is copied.
        x = input.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


def simple_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """weight * x / sqrt(var + eps) over the last dimension of (..., C), C >= 2: in the shape and type of x.

    The variance is around the mean and divided by C - 1, but the mean is not subtracted from x. So it is not RMSNorm,
    although timm calls its models with it `rms` (timm 1.0.31, layers/fast_norm.py, simple_norm).
    """
    wide = torch.promote_types(x.dtype, torch.float32)  # float64 stays float64
    centred = x - x.mean(-1, keepdim=True, dtype=wide)
    # The same as var(-1), whose CPU kernel takes ten times as long.
    variance = torch.linalg.vector_norm(centred, dim=-1, keepdim=True).square() / (x.shape[-1] - 1)
    return (x * torch.rsqrt(variance + eps) * weight).to(x.dtype)


class _SimpleNormWeight(nn.Module):
    """The base of both layouts of the simple norm: a weight and no bias."""

    def __init__(self, dim: int, *, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}"


class SimpleNorm(_SimpleNormWeight):
    """`simple_norm` over the last dimension of (..., C)."""

    def forward(self, x: Tensor) -> Tensor:
        return simple_norm(x, self.weight, self.eps)


class SimpleNorm2d(_SimpleNormWeight):
    """`simple_norm` over the channels of (B, C, H, W); its output is channels_last, as LayerNorm2d's is."""

    def forward(self, x: Tensor) -> Tensor:
        # For a channels_last tensor all three are views.
        x = x.permute(0, 2, 3, 1).contiguous()
        return simple_norm(x, self.weight, self.eps).permute(0, 3, 1, 2)


NORMS = {"layer": LayerNorm, "simple": SimpleNorm}
NORMS_2D = {"layer": LayerNorm2d, "simple": SimpleNorm2d}
