"""The class of each pixel. B images, K classes, H W space."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

IGNORED = 255
"""A pixel without a class: it teaches nothing and counts for nothing."""
MOST_CLASSES = 255
"""Classes are bytes, and one of their values is taken."""


def pixel_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of logits (B, K, h, w), resized, against classes int64 (B, H, W), float32.

    The mean is over all pixels, to which those of class IGNORED add nothing (mmsegmentation's default).
    """
    logits = F.interpolate(logits.float(), size=targets.shape[1:], mode="bilinear", align_corners=False)
    return F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum") / targets.numel()
