"""Folding for inference: what only scales or shifts channels goes into the layer beside it.

B batch, C channels, H W space. Layer scale goes into the second pointwise layer of a block (its own weights and bias,
row by row), a norm's affine part into the layer after it: W (w * n + b) + c = (W diag(w)) n + (W b + c), for a
normalised n. Each saves eager execution a pass over an activation; outputs change by rounding alone.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from convnext.models.convnext import Block, ConvNeXt
from convnext.models.features import FeatureMaps

Model = TypeVar("Model", bound=nn.Module)


@torch.no_grad()
def fuse(model: Model) -> Model:
    """A copy of `model` for inference, whose blocks and downsampling layers have less to do.

    Works on whatever is made of our blocks: `ConvNeXt` (V1, V2), `IsotropicConvNeXt`, `FeatureMaps`, or a module that
    holds one. The copy has the same class and methods; logits, features, tokens and feature maps stay what they were,
    up to rounding (float32: some 1e-6 relative). In it:

    - a block has no layer scale, and its norm no affine part (they are in `pwconv2` and `pwconv1`);
    - a downsampling norm has no affine part (it is in the convolution). Not where that convolution pads: its zeros
      stand after the norm, and a folded shift would be missing at the border;
    - drop path is gone, the mode is evaluation, and no parameter requires a gradient, whatever the mode of `model`.

    The final norm keeps its affine part: it is read by `forward_features` and `forward_tokens` too, and costs C numbers
    an image. A norm or layer of a kind that is not known here stays as it is. Folding again changes nothing. The state
    dict of the copy has other names than a checkpoint: load weights first, then fold. Cast to half precision first or
    last alike: folding is done in float32 and rounded once.

    Args:
        model: left untouched; the copy shares no tensor with it.
    """
    fused = copy.deepcopy(model).eval().requires_grad_(False)
    for module in fused.modules():
        if isinstance(module, Block):
            _fold_block(module)
        elif isinstance(module, (ConvNeXt, FeatureMaps)):
            for downsample in module.downsample_layers:
                first, second = list(downsample.children())[:2]  # stem: convolution, norm; others: norm, convolution
                _fold_norm(first, second)
    return fused


def _fold_block(block: Block) -> None:
    block.drop_path = nn.Identity()  # type: ignore[assignment]
    _fold_norm(block.norm, block.pwconv1)
    if block.gamma is not None and type(block.pwconv2) is nn.Linear:
        gamma = _wide(block.gamma)
        bias = None if block.pwconv2.bias is None else gamma * _wide(block.pwconv2.bias)
        _replace(block.pwconv2, gamma[:, None] * _wide(block.pwconv2.weight), bias)
        block.gamma = None


def _fold_norm(norm: nn.Module, layer: nn.Module) -> None:
    """Moves the affine part of `norm` into `layer`, where both are of a known kind and that is exact."""
    if not isinstance(norm, (nn.LayerNorm, nn.RMSNorm)) or not norm.elementwise_affine:
        return
    if not (type(layer) is nn.Linear or (type(layer) is nn.Conv2d and layer.groups == 1 and layer.padding == (0, 0))):
        return
    weight, bias = _wide(layer.weight), layer.bias
    shift = getattr(norm, "bias", None)  # RMS norm has none
    if shift is not None:
        moved = torch.einsum("oi...,i->o", weight, _wide(shift))
        bias = moved if bias is None else _wide(bias) + moved
        norm.bias = None  # type: ignore[assignment]
    # (out, in) or (out, in, kernel, kernel): the channels of the input are the second dimension of both
    _replace(layer, weight * _wide(norm.weight).view(1, -1, *(1,) * (weight.ndim - 2)), bias)
    norm.weight = None  # type: ignore[assignment]
    norm.elementwise_affine = False


def _replace(layer: nn.Linear | nn.Conv2d, weight: Tensor, bias: Tensor | None) -> None:
    """Gives `layer` other values, in the type that it has."""
    dtype = layer.weight.dtype
    layer.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.to(dtype), requires_grad=False)


def _wide(x: Tensor) -> Tensor:
    """`x` in float32, or in float64 if it is that already."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
