"""Linear layers and convolutions whose bfloat16 is not slow on a processor that has no arithmetic for it.

B batch, C channels, H W space. Where oneDNN has no bfloat16 kernels (x86 without AVX-512), torch multiplies in plain
loops and convolves group by group: ConvNeXt-T takes 13 times as long as in float32 (docs/results/bench.md). There the
layers here compute in float32 and round once, at the end; elsewhere they are torch's own. Same parameters, same types
in and out; results differ by less than bfloat16's own rounding, for the products are more exact.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_EMULATED = not torch.ops.mkldnn._is_mkldnn_bf16_supported()  # an operator of torch, though its name is private


def is_emulated(x: Tensor) -> bool:
    """Whether a product with `x` would be one of bfloat16 without arithmetic for it: by its type, or by autocast's."""
    if not _EMULATED or x.device.type != "cpu":
        return False
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu") == torch.bfloat16 and x.dtype in (torch.float32, torch.bfloat16)
    return x.dtype == torch.bfloat16


def in_float32(product: Callable[..., Tensor], *operands: Tensor | None) -> Tensor:
    """`product` of the operands in float32, its result in bfloat16. Gradients have each operand's own type."""
    with torch.autocast("cpu", enabled=False):
        return product(*(None if operand is None else operand.float() for operand in operands)).bfloat16()


class Linear(nn.Linear):
    """`nn.Linear`: (..., in_features) to (..., out_features)."""

    def forward(self, input: Tensor) -> Tensor:
        if is_emulated(input):
            return in_float32(F.linear, input, self.weight, self.bias)
        return super().forward(input)


class Conv2d(nn.Conv2d):
    """`nn.Conv2d`, padded with zeros alone: (B, C, H, W) to (B, C', H', W')."""

    def forward(self, input: Tensor) -> Tensor:
        if is_emulated(input):
            return in_float32(self.convolve, input, self.weight, self.bias)
        return super().forward(input)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution with other operands, in the type that they have."""
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)
