"""Folding for inference: what only scales or shifts channels goes into the layer beside it, and GELU takes no memory.

B batch, C channels, H W space. Layer scale goes into the second pointwise layer of a block (its own weights and bias,
row by row). The affine part of a norm goes into the layer after it: W (w * n + b) + c = (W diag(w)) n + (W b + c), for
a normalised n. A BatchNorm in a head, which in evaluation mode scales and shifts channels, goes into the convolution
before it: g (W x - m) / s + b = (g / s) W x + (b - g m / s). Outputs change by rounding alone.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from convnext.models.convnext import Block, ConvNeXt
from convnext.models.features import FeatureMaps
from convnext.ops.low_precision import Conv2d, Linear
from convnext.ops.norm import SimpleNorm, SimpleNorm2d

Model = TypeVar("Model", bound=nn.Module)

_LINEAR, _CONVOLUTIONS = (nn.Linear, Linear), (nn.Conv2d, Conv2d)  # and no other kinds of them: quantised ones, say
_NORMS = (nn.LayerNorm, nn.RMSNorm, SimpleNorm, SimpleNorm2d)  # each ends with: times weight, and perhaps plus bias


@torch.no_grad()
def fuse(model: Model) -> Model:
    """Returns a copy of `model` for inference: a classifier, a detector or a segmenter, with less to compute.

    Works on whatever is made of our blocks: `ConvNeXt` (V1, V2), `IsotropicConvNeXt`, `FeatureMaps`, a detector, a
    segmenter, or a module that holds one. The copy has the same class and methods; logits, features, tokens and feature
    maps stay what they were, up to rounding (float32: some 1e-6 relative). In it:

    - a block has no layer scale (it is in `pwconv2`), which saves eager execution a pass over an activation;
    - a block's norm and a downsampling norm only normalise (the rest is in `pwconv1`, or in the convolution): their
      weight is 1, their bias 0. They are kept, for torch's float32 kernel on the CPU takes longer without them. A norm
      before a convolution that pads stays as it is: the padding's zeros come after the norm, and a folded shift would
      be missing at the border;
    - the BatchNorms of detection and segmentation heads are in the convolutions before them;
    - a block's GELU writes over its input: new memory for the largest activation of a block can cost more than GELU;
    - drop path is gone, the mode is evaluation, and no parameter requires a gradient, whatever the mode of `model`.

    The final norm stays as it is: `forward_features` and `forward_tokens` give its output. So does a norm or layer of a
    kind that is not known here, and a BatchNorm of a ResNet. Folding again changes nothing. Names are those of the
    checkpoint, but a layer scale or a BatchNorm that was folded is missing: load weights first, then fold. Before or
    after a cast to half precision: a block is folded in float32 and rounded once.

    Args:
        model: left untouched; the copy shares no tensor with it.
    """
    fused = copy.deepcopy(model).eval().requires_grad_(False)
    for module in fused.modules():
        if isinstance(module, Block):
            _fold_block(module)
        elif isinstance(module, (ConvNeXt, FeatureMaps)):
            for downsample in module.downsample_layers:
                layers = list(downsample.children())[:2]  # stem: convolution, norm; others: norm, convolution
                if len(layers) == 2:  # a ResNet's have none between stages
                    _fold_norm(*layers)
        elif isinstance(module, nn.Sequential):
            _fold_batch_norm(module)
    return fused


class _GELUInPlace(nn.Module):
    """GELU written over its input, which in a block is nobody else's."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.aten.gelu_(x)


def _fold_block(block: Block) -> None:
    block.drop_path = nn.Identity()  # type: ignore[assignment]
    if type(block.act) is nn.GELU and block.act.approximate == "none":
        block.act = _GELUInPlace()  # type: ignore[assignment]
    _fold_norm(block.norm, block.pwconv1)
    if block.gamma is not None and type(block.pwconv2) in _LINEAR:
        gamma = _wide(block.gamma)
        bias = None if block.pwconv2.bias is None else gamma * _wide(block.pwconv2.bias)
        _replace(block.pwconv2, gamma[:, None] * _wide(block.pwconv2.weight), bias)
        block.gamma = None


def _fold_batch_norm(layers: nn.Sequential) -> None:
    """Moves `bn` into the convolution `conv` in front of it; heads call their layers so (`fpn.named_conv`)."""
    parts = dict(layers.named_children())
    conv, norm = parts.get("conv"), parts.get("bn")
    if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
        layers.conv = fuse_conv_bn_eval(conv, norm)
        layers.bn = nn.Identity()


def _fold_norm(norm: nn.Module, layer: nn.Module) -> None:
    """Moves the affine part of `norm` into `layer`, where both are of a known kind and that is exact."""
    if not isinstance(norm, _NORMS) or norm.weight is None:
        return
    if not isinstance(layer, (nn.Linear, nn.Conv2d)) or type(layer) not in (*_LINEAR, *_CONVOLUTIONS):
        return
    if isinstance(layer, nn.Conv2d) and (layer.groups > 1 or layer.padding != (0, 0)):
        return
    weight, bias = _wide(layer.weight), layer.bias
    shift = getattr(norm, "bias", None)  # LayerNorm alone has one
    if shift is not None:
        moved = torch.einsum("oi...,i->o", weight, _wide(shift))
        bias = moved if bias is None else _wide(bias) + moved
        nn.init.zeros_(shift)
    # (out, in) or (out, in, kernel, kernel): the channels of the input are the second dimension of both
    _replace(layer, weight * _wide(norm.weight).view(1, -1, *(1,) * (weight.ndim - 2)), bias)
    nn.init.ones_(norm.weight)


def _replace(layer: nn.Linear | nn.Conv2d, weight: Tensor, bias: Tensor | None) -> None:
    """Gives `layer` other values, in the type that it has."""
    dtype = layer.weight.dtype
    layer.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.to(dtype), requires_grad=False)


def _wide(x: Tensor) -> Tensor:
    """`x` in float32, or in float64 if it is that already."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
