"""The stem: from the image to the maps of the first stage. B batch, C channels, H W space."""

from __future__ import annotations

from typing import Literal, get_args

from torch import nn

from convnext.ops.low_precision import Conv2d
from convnext.ops.norm import NormOf

StemKind = Literal["patch", "overlap", "overlap_tiered", "overlap_act"]


def build_stem(kind: StemKind, in_chans: int, dim: int, *, stride: int, norm: NormOf) -> nn.Sequential:
    """Convolution and norm, (B, in_chans, H, W) to (B, dim, H / stride, W / stride), for a stride of 4, 2 or 1.

    `patch` is the paper's (section 2.3): patches that do not overlap. At stride 1 a patch would be one pixel without
    neighbours, so there it is 3x3. The others are timm's (models/convnext.py, `stem_type`): two 3x3 convolutions of
    stride 2, the norm after the second; with `overlap_tiered` the first has half the channels, with `overlap_act` a
    GELU follows it. Their maps round odd sizes up.

    Raises:
        ValueError: for another kind.
    """
    if kind not in get_args(StemKind):
        raise ValueError(f"A stem is one of {', '.join(get_args(StemKind))}, not {kind}.")
    if kind == "patch":
        kernel, padding = (3, 1) if stride == 1 else (stride, 0)
        return nn.Sequential(Conv2d(in_chans, dim, kernel, stride=stride, padding=padding), norm(dim))
    width = _half(dim) if kind == "overlap_tiered" else dim
    first = Conv2d(in_chans, width, kernel_size=3, stride=min(stride, 2), padding=1)
    second = Conv2d(width, dim, kernel_size=3, stride=max(stride // 2, 1), padding=1)
    act = [nn.GELU()] if kind == "overlap_act" else []
    return nn.Sequential(first, *act, second, norm(dim))


def _half(dim: int) -> int:
    """Half the channels, as timm rounds them: to a multiple of 8, the nearest that loses no more than a tenth."""
    nearest = max((dim // 2 + 4) // 8 * 8, 8)
    return nearest if nearest >= 0.9 * (dim // 2) else nearest + 8
