"""Losses of classes of images and of pixels. B images, K classes, H W space."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE_INDEX = 255
"""A pixel without a class: it teaches nothing and counts for nothing."""
MAX_CLASSES = 255
"""Classes are bytes, and one of their values is taken."""


def pixel_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy of logits (B, K, h, w), resized, against classes int64 (B, H, W), float32.

    The mean is over all pixels, to which those of class IGNORE_INDEX add nothing (mmsegmentation's default). weights:
    float32 (K,), of each class's pixels; None: all alike.
    """
    logits = F.interpolate(logits.float(), size=targets.shape[1:], mode="bilinear", align_corners=False)
    return F.cross_entropy(logits, targets, weights, ignore_index=IGNORE_INDEX, reduction="sum") / targets.numel()


def class_weights(pixels: Tensor, power: float) -> Tensor:
    """Weights of classes, float32 (K,), from how many pixels each has: its share of them to the power of -power, so
    that the mean over all pixels is 1. A class without pixels has the weight of the rarest.

    power 0 weighs all alike; 1 gives each class the same say in all.
    """
    shares = pixels.double() / pixels.sum().clamp_min(1)
    rarest = shares[shares > 0].min() if bool((shares > 0).any()) else shares.new_ones(())
    weights = torch.where(shares > 0, shares, rarest).pow(-power)
    return (weights / (weights * shares).sum().clamp_min(1e-12)).float()


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of logits (B, K) against soft targets (B, K), in float32 whatever the logits' type."""
    return -(targets.float() * logits.float().log_softmax(dim=1)).sum(dim=1).mean()
