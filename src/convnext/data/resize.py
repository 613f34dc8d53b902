"""Resizing that keeps an image's proportions, for detection and segmentation.

torchvision's kernels do the work. It is imported on first use, which takes seconds: import it before workers start.
"""

from __future__ import annotations

from torch import Tensor


def keep_ratio_size(height: int, width: int, short: int, long: int) -> tuple[int, int]:
    """Height and width after resizing: the shorter side `short`, or the longer one `long` where it would be beyond.

    Rounded to the nearest, at least 1. Source: mmcv's `rescale_size`.
    """
    scale = min(long / max(height, width), short / min(height, width))
    return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


def resized_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 (3, H, W) to uint8 (3, *size), size (height, width): bilinear without antialiasing, as the published
    detectors and segmenters were trained."""
    from torchvision.transforms.v2 import InterpolationMode, functional

    if tuple(image.shape[1:]) == size:
        return image
    return functional.resize_image(image, list(size), interpolation=InterpolationMode.BILINEAR, antialias=False)
