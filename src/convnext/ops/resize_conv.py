"""A convolution over a resized map, without resizing it first. B images, C and O channels, H W space, h w a map's own.

A 3x3 convolution is nine 1x1 ones, each moved by a pixel and added; a 1x1 convolution and a bilinear resize may change
places. So the nine are done at the map's own size, of which there are a quarter, a sixteenth, ... of the pixels, and
what they give is resized, moved and added by products with small matrices, first along rows, then along columns.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int]


def conv_of_resized_reference(x: Tensor, weight: Tensor, size: Size) -> Tensor:
    """A map (B, C, h, w), resized bilinearly to size (H, W), through a 3x3 convolution (O, C, 3, 3) that keeps its
    size: (B, O, H, W)."""
    large = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
    return F.conv2d(large, weight, padding=1)


def conv_of_resized(x: Tensor, weight: Tensor, size: Size) -> Tensor:
    """The same as `conv_of_resized_reference` up to rounding (float32: some 1e-6 relative), with gradients.

    Of a map of h x w it takes 9 C O h w multiply-accumulates and little more, instead of 9 C O H W.
    """
    (batch, channels, height, width), out = x.shape, weight.shape[0]
    taps = weight.permute(2, 3, 0, 1).reshape(9 * out, channels, 1, 1)
    y = F.conv2d(x, taps).view(batch, 3, 3, out, height, width)  # by row and column of the filter
    rows, columns = _moved(height, size[0], x), _moved(width, size[1], x)
    total = None
    for i in range(3):
        along = y[:, i, 0] @ columns[0]  # (B, O, h, W); no product is read again, so sums may stand in their place
        along += y[:, i, 1] @ columns[1]
        along += y[:, i, 2] @ columns[2]
        part = rows[i].mT @ along
        total = part if total is None else total.add_(part)
    assert total is not None
    return total


def _moved(given: int, length: int, like: Tensor) -> Tensor:
    """What resizes a side bilinearly and moves it by -1, 0, 1 pixels, zeros coming in: (3, given, length)."""
    exact = torch.promote_types(like.dtype, torch.float32)  # in bfloat16, odd sizes would be resized amiss
    eye = torch.eye(given, dtype=exact, device=like.device)[None]
    plain = F.interpolate(eye, size=length, mode="linear", align_corners=False)[0].to(like.dtype)
    wide = F.pad(plain, (1, 1))
    return torch.stack([wide[:, i : i + length] for i in range(3)])
