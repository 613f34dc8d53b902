"""Linear layers and convolutions whose bfloat16 is not slow on processors without bfloat16 arithmetic.

B batch, C channels, H W space. Where oneDNN has no bfloat16 kernels (x86 without AVX-512, for example), torch
multiplies in plain loops and convolves group by group: ConvNeXt-T takes 13 times as long as in float32
(docs/results/bench-avx2.md). There, these layers compute in float32 and round once, at the end; elsewhere they are
torch's own. Parameters and types are the same; results are within the rounding of bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# torch's own operator, with a private name. It exists where torch was built with oneDNN.
_NO_KERNELS = torch.backends.mkldnn.is_available() and not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def goes_through_float32(x: Tensor, weight: Tensor) -> bool:
    """Whether their product would be in bfloat16 without kernels for it, by their types or by autocast's."""
    if not _NO_KERNELS or x.device.type != "cpu":
        return False
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu") == torch.bfloat16 and x.dtype in (torch.float32, torch.bfloat16)
    return x.dtype == weight.dtype == torch.bfloat16


def in_float32(product: Callable[..., Tensor], *operands: Tensor | None) -> Tensor:
    """Computes `product` of the operands in float32; returns bfloat16. Gradients have the operands' own types."""
    with torch.autocast("cpu", enabled=False):
        return product(*(None if operand is None else operand.float() for operand in operands)).bfloat16()


class Linear(nn.Linear):
    """`nn.Linear`: (..., in_features) to (..., out_features)."""

    def forward(self, input: Tensor) -> Tensor:
        if goes_through_float32(input, self.weight):
            cast = torch.is_autocast_enabled("cpu") and torch.is_grad_enabled() and torch.compiler.is_compiling()
            return in_float32(_Linear.apply if cast else F.linear, input, self.weight, self.bias)
        return super().forward(input)


class _Linear(torch.autograd.Function):
    """`F.linear` whose gradients are computed in float32 when compiled, too.

    A compiler traces the backward pass under the forward pass's autocast, so torch's own formula would multiply in
    bfloat16: a step took seventeen times as long as without a compiler. Gradients of convolutions are not affected.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), (x, weight) = gradients, ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        rows = gradient.reshape(-1, gradient.shape[-1])  # (..., O) -> (rows, O)
        with torch.autocast("cpu", enabled=False):
            return (
                gradient @ weight if of_x else None,
                rows.t() @ x.reshape(-1, x.shape[-1]) if of_weight else None,
                rows.sum(0) if of_bias else None,
            )


class Conv2d(nn.Conv2d):
    """`nn.Conv2d`: (B, C, H, W) to (B, C', H', W')."""

    def forward(self, input: Tensor) -> Tensor:
        if goes_through_float32(input, self.weight):
            return in_float32(self._conv_forward, input, self.weight, self.bias)
        return super().forward(input)
