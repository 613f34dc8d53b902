"""What makes times comparable: the same images for all contestants, and results that are equal within rounding.

B images, H W space.
"""

from __future__ import annotations

import torch
from torch import Tensor

TOLERANCE = 1e-4
"""The largest difference in float32 between the same networks of two libraries, relative to the largest value."""


def random_images(size: tuple[int, int], batch: int, *, seed: int) -> Tensor:
    """The images (B, 3, H, W) that every contestant is given. size: height and width in pixels."""
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(seed + 1))


def relative_difference(given: Tensor, expected: Tensor) -> float:
    """The largest difference divided by the largest expected value; infinite if the shapes differ."""
    given, expected = given.detach().float().cpu(), expected.float().cpu()
    if given.shape != expected.shape:
        return float("inf")
    return ((given - expected).abs().max() / expected.abs().max()).item()
