"""Depthwise convolution, with a faster gradient of its filters for training on a CPU.

B batch, C channels, H W space, k kernel size.
"""

from __future__ import annotations

import platform
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

from convnext.ops.low_precision import Conv2d, goes_through_float32, in_float32

# Where torch's own gradient of the filters is slower than `filter_gradient` (docs/results/bench.md): on x86 through
# oneDNN, for filters of at least 5x5 and maps of these sizes.
_HERE = platform.machine().lower() in ("x86_64", "amd64") and torch.backends.mkldnn.is_available()
_SMALLEST_FILTER, _SMALLEST_SIDE, _LARGEST_MAP = 5, 4, 32_768


class DepthwiseConv2d(Conv2d):
    """`nn.Conv2d` with one filter per channel: (B, C, H, W) to (B, C, H', W').

    It has the same parameters and results. In training on an x86 processor, the gradient of the filters comes from
    `filter_gradient` where that is faster.
    """

    def __init__(
        self, dim: int, kernel_size: int, *, stride: int = 1, padding: int = 0, dilation: int = 1, bias: bool = True
    ) -> None:
        super().__init__(
            dim, dim, kernel_size, stride=stride, padding=padding, dilation=dilation, groups=dim, bias=bias
        )

    def forward(self, input: Tensor) -> Tensor:
        if not (self.training and torch.is_grad_enabled() and self.weight.requires_grad and _is_faster(input, self)):
            return super().forward(input)
        if goes_through_float32(input, self.weight):
            return in_float32(self._differentiated, input, self.weight, self.bias)
        x, weight, bias = input, self.weight, self.bias
        if torch.is_autocast_enabled("cpu"):  # as autocast does for a convolution, but where autograd sees it
            dtype = torch.get_autocast_dtype("cpu")
            x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        return self._differentiated(x, weight, bias)

    def _differentiated(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _Depthwise.apply(x, weight, bias, self.stride[0], self.padding[0], self.dilation[0])


def _is_faster(x: Tensor, conv: nn.Conv2d) -> bool:
    height, width = x.shape[-2:]
    suits = min(height, width) >= _SMALLEST_SIDE and height * width <= _LARGEST_MAP
    large = conv.kernel_size[0] >= _SMALLEST_FILTER
    return _HERE and x.device.type == "cpu" and large and suits


def filter_gradient(
    x: Tensor, gradient: Tensor, kernel_size: int, *, stride: int, padding: int, dilation: int
) -> Tensor:
    """The gradient (C, 1, k, k) of a depthwise convolution's filters, from x (B, C, H, W) and the output's `gradient`.

    Each channel of each image is convolved with its own gradient as the filter: a depthwise convolution over B * C
    channels, in which stride and dilation are exchanged. torch's kernel for it is several times as fast as its kernel
    for the gradient of filters.
    """
    batch, channels = x.shape[:2]
    maps = x.contiguous().view(1, batch * channels, *x.shape[2:])
    filters = gradient.contiguous().view(batch * channels, 1, *gradient.shape[2:])
    found = F.conv2d(maps, filters, None, dilation, padding, stride, batch * channels)
    # If the stride does not divide the size, the result is too large by a row and a column.
    found = found[..., :kernel_size, :kernel_size].reshape(batch, channels, kernel_size, kernel_size)
    found = found.sum(0, dtype=torch.promote_types(x.dtype, torch.float32)).to(x.dtype).contiguous()
    return found.unsqueeze(1)  # the filters' own strides: DDP warns about others


@torch.library.custom_op("convnext::depthwise_filter_gradient", mutates_args=())
def _opaque_filter_gradient(
    x: Tensor, gradient: Tensor, kernel_size: int, *, stride: int, padding: int, dilation: int
) -> Tensor:
    """`filter_gradient` as one operator, which a compiler leaves as it is.

    Inductor would change the operands of its convolution to channels_last, as it does for all on a CPU: over B * C
    channels that takes three times as long (ConvNeXt-T, 16 images).
    """
    return filter_gradient(x, gradient, kernel_size, stride=stride, padding=padding, dilation=dilation)


@_opaque_filter_gradient.register_fake
def _(x: Tensor, gradient: Tensor, kernel_size: int, *, stride: int, padding: int, dilation: int) -> Tensor:
    return x.new_empty(x.shape[1], 1, kernel_size, kernel_size)


class _Depthwise(torch.autograd.Function):
    """torch's convolution with `filter_gradient` for its filters. Supports double backward and torch.func."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, dilation: int) -> Tensor:
        return F.conv2d(x, weight, bias, stride, padding, dilation, weight.shape[0])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _, *ctx.geometry = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), (x, weight) = gradients, ctx.saved_tensors
        stride, padding, dilation = ctx.geometry
        of_x, of_weight, of_bias = ctx.needs_input_grad[:3]
        x_gradient = weight_gradient = bias_gradient = None
        if of_x:
            x_gradient = conv2d_input(x.shape, weight, gradient, stride, padding, dilation, weight.shape[0])
        if of_weight:
            found = _opaque_filter_gradient if torch.compiler.is_compiling() else filter_gradient
            weight_gradient = found(x, gradient, weight.shape[-1], stride=stride, padding=padding, dilation=dilation)
        if of_bias:
            bias_gradient = gradient.sum((0, 2, 3))
        return x_gradient, weight_gradient, bias_gradient, None, None, None
