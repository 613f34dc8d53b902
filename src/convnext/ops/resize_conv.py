"""A convolution of a resized map that does not resize the map first.

B images, C and O channels, H W the resized map's size, h w the map's own. A 3x3 convolution is the sum of nine 1x1
convolutions, each shifted by a pixel, and a 1x1 convolution and a bilinear resize can be exchanged. So the nine are
done at the map's own size, with a quarter, a sixteenth, ... of the pixels; their results are resized, shifted and added
by products with small matrices, first along rows, then along columns.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int]


def conv_of_resized_reference(x: Tensor, weight: Tensor, size: Size) -> Tensor:
    """Resizes a map (B, C, h, w) bilinearly to size (H, W) and convolves it with a 3x3 filter (O, C, 3, 3), padded:
    (B, O, H, W)."""
    large = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
    return F.conv2d(large, weight, padding=1)


def conv_of_resized(x: Tensor, weight: Tensor, size: Size) -> Tensor:
    """The same as `conv_of_resized_reference` up to rounding (float32: about 1e-6 relative), with gradients.

    It takes 9 C O h w multiply-accumulates and little more, instead of 9 C O H W.
    """
    (batch, channels, height, width), out = x.shape, weight.shape[0]
    taps = weight.permute(2, 3, 0, 1).reshape(9 * out, channels, 1, 1)
    y = F.conv2d(x, taps).view(batch, 3, 3, out, height, width)  # by the filter's row and column
    rows, columns = _moved(height, size[0], x), _moved(width, size[1], x)
    total = None
    for i in range(3):
        along = y[:, i, 0] @ columns[0]  # (B, O, h, W); no product is read again, so sums may overwrite it
        along += y[:, i, 1] @ columns[1]
        along += y[:, i, 2] @ columns[2]
        part = rows[i].mT @ along
        total = part if total is None else total.add_(part)
    assert total is not None
    return total


def _moved(given: int, length: int, like: Tensor) -> Tensor:
    """Matrices (3, given, length) that resize a side bilinearly and shift it by -1, 0, 1 pixels, with zeros added."""
    exact = torch.promote_types(like.dtype, torch.float32)  # in bfloat16, odd sizes would be resized wrongly
    eye = torch.eye(given, dtype=exact, device=like.device)[None]
    plain = F.interpolate(eye, size=length, mode="linear", align_corners=False)[0].to(like.dtype)
    wide = F.pad(plain, (1, 1))
    return torch.stack([wide[:, i : i + length] for i in range(3)])
