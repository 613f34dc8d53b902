"""What evaluation and prediction do to an image before a classifier sees it.

Shapes: H W the image's size, S the model's; uint8 in and out, the device normalises (`mix.prepare`).

torch alone resizes here: on uint8 it gives the very pixels of torchvision's tensor transforms (a test compares them),
without the seconds that importing torchvision takes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from convnext.data.config import InputConfig

_LONGEST = 16  # times the shorter side


def resolved_resize(config: InputConfig) -> Literal["crop", "warp"]:
    """The rule that "auto" stands for: warp at 384 and above (the official evaluation) and at 32 and below (small
    images have no border to spare), crop between. A rule that was chosen is returned as it is."""
    if config.resize != "auto":
        return config.resize
    return "warp" if config.size >= 384 or config.size <= 32 else "crop"


def eval_transform(image: Tensor, config: InputConfig) -> Tensor:
    """An image of any size, uint8 (3, H, W), as the model takes it: uint8 (3, S, S), S = config.size.

    crop: the shorter side to int(S / crop_ratio), the longer in proportion (rounded down), then the S x S centre.
    warp: straight to S x S. Both antialiased; an image that has the size already is not changed.
    Source: facebookresearch/ConvNeXt, datasets.py (Resize then CenterCrop; at 384 and above Resize to both sides).
    """
    size = config.size
    if resolved_resize(config) == "warp":
        return resize(image, size, size, config.interpolation)
    short = int(size / config.crop_ratio)
    image = _without_ends(image)
    height, width = image.shape[1:]
    if height <= width:
        image = resize(image, short, int(short * width / height), config.interpolation)
    else:
        image = resize(image, int(short * height / width), short, config.interpolation)
    return center_crop(image, size)


def _without_ends(image: Tensor) -> Tensor:
    """The middle of an image that is more than 16 times as long as wide: a strip of 1 x 100,000 pixels would become
    gigabytes when its shorter side is enlarged, for ends that the centre crop drops."""
    height, width = image.shape[1:]
    longest = _LONGEST * min(height, width)
    top, left = max((height - longest) // 2, 0), max((width - longest) // 2, 0)
    return image[:, top : top + longest, left : left + longest]


def resize(image: Tensor, height: int, width: int, interpolation: Literal["bicubic", "bilinear"]) -> Tensor:
    """uint8 (3, H, W) to uint8 (3, height, width), antialiased; the image itself where it has that size."""
    if image.shape[1:] == (height, width):
        return image
    return functional.interpolate(
        image.unsqueeze(0), size=(height, width), mode=interpolation, antialias=True, align_corners=False
    )[0]


def center_crop(image: Tensor, size: int) -> Tensor:
    """The central size x size of (C, H, W); what lies beyond the image is zero (black)."""
    height, width = image.shape[1:]
    top, left = _central(height, size), _central(width, size)
    if height >= size and width >= size:
        return image[:, top : top + size, left : left + size].contiguous()
    return crop_with_zeros(image, top, left, size)


def _central(length: int, size: int) -> int:
    """Where `size` central pixels of `length` begin, rounded exactly as torchvision rounds."""
    return round((length - size) / 2) if length >= size else -((size - length) // 2)


def crop_with_zeros(image: Tensor, top: int, left: int, size: int) -> Tensor:
    """The size x size part of (C, H, W) whose corner is (top, left), perhaps outside; zero beyond the image."""
    channels, height, width = image.shape
    result = torch.zeros((channels, size, size), dtype=image.dtype)
    y0, y1 = max(top, 0), min(top + size, height)
    x0, x1 = max(left, 0), min(left + size, width)
    if y0 < y1 and x0 < x1:
        result[:, y0 - top : y1 - top, x0 - left : x1 - left] = image[:, y0:y1, x0:x1]
    return result
