"""Stems: what they compute, written out, and how wide timm's are. B batch, C channels, H W space."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from kinds import difference, image
from timm.layers import make_divisible
from timm.models.convnext import ConvNeXt as TimmConvNeXt
from torch import nn

from convnext.models.stem import StemKind, build_stem
from convnext.ops.norm import LayerNorm2d


@torch.no_grad()
@pytest.mark.parametrize("stride", [4, 2, 1])
@pytest.mark.parametrize("kind", get_args(StemKind))
def test_written_out(kind, stride):
    torch.manual_seed(0)
    stem = build_stem(kind, 3, 32, stride=stride, norm=LayerNorm2d)
    layers = [layer for layer in stem if isinstance(layer, nn.Conv2d)]
    x = expected = image(2, 3, 33, 62)
    if kind == "patch":
        padding = 1 if stride == 1 else 0
        expected = F.conv2d(x, layers[0].weight, layers[0].bias, stride=stride, padding=padding)
    else:
        for layer, step in zip(layers, {4: (2, 2), 2: (2, 1), 1: (1, 1)}[stride], strict=True):
            expected = F.conv2d(expected, layer.weight, layer.bias, stride=step, padding=1)
            if kind == "overlap_act" and layer is layers[0]:
                expected = expected * 0.5 * (1 + torch.erf(expected / 2**0.5))
    centred = expected - expected.mean(1, keepdim=True)
    expected = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
    assert difference(stem(x), expected) < 1e-5
    rounded = (33 // stride, 62 // stride) if kind == "patch" else (-(-33 // stride), -(-62 // stride))
    assert stem(x).shape == (2, 32, *rounded)


@pytest.mark.parametrize("kind", get_args(StemKind))
@pytest.mark.parametrize("dim", [8, 40, 54])
def test_names_and_shapes_are_timm_s(kind, dim):
    with torch.device("meta"):
        ours = build_stem(kind, 3, dim, stride=4, norm=LayerNorm2d).state_dict()
        theirs: Any = TimmConvNeXt(depths=(1, 1, 1, 1), dims=(dim, 8, 8, 8), stem_type=kind)
    assert [(name, value.shape) for name, value in ours.items()] == [
        (name, value.shape) for name, value in theirs.stem.state_dict().items()
    ]


def test_half_is_rounded_as_timm_rounds_it():
    for dim in range(2, 400):
        with torch.device("meta"):
            stem = build_stem("overlap_tiered", 3, dim, stride=4, norm=LayerNorm2d)
        assert stem.state_dict()["0.weight"].shape[0] == make_divisible(dim // 2), dim
