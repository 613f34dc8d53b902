"""Losses of classes of images and of pixels. B images, K classes, H W space."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE_INDEX = 255
"""The value of a pixel without a class: losses and metrics ignore it."""
MAX_CLASSES = 255
"""Classes are bytes, and IGNORE_INDEX takes one of their values."""


def pixel_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy of logits (B, K, h, w), resized to the targets, and classes int64 (B, H, W), in float32.

    The mean is over all pixels; those of IGNORE_INDEX count as 0 (mmsegmentation's default). weights: float32 (K,), one
    for each class; None: all equal.
    """
    logits = F.interpolate(logits.float(), size=targets.shape[1:], mode="bilinear", align_corners=False)
    return F.cross_entropy(logits, targets, weights, ignore_index=IGNORE_INDEX, reduction="sum") / targets.numel()


def class_weights(pixels: Tensor, power: float) -> Tensor:
    """Class weights, float32 (K,), from the number of pixels of each class: its share of them to the power of -power,
    scaled so that the mean over all pixels is 1. A class without pixels gets the weight of the rarest one.

    power 0: all weights are equal; 1: each class has the same total weight.
    """
    shares = pixels.double() / pixels.sum().clamp_min(1)
    rarest = shares[shares > 0].min() if bool((shares > 0).any()) else shares.new_ones(())
    weights = torch.where(shares > 0, shares, rarest).pow(-power)
    return (weights / (weights * shares).sum().clamp_min(1e-12)).float()


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of logits (B, K) against soft targets (B, K), in float32 whatever the logits' type."""
    return -(targets.float() * logits.float().log_softmax(dim=1)).sum(dim=1).mean()


def soft_binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over images and labels of the binary cross-entropy of logits (B, K) against soft targets (B, K) in 0..1, in
    float32 whatever the logits' type."""
    return F.binary_cross_entropy_with_logits(logits.float(), targets.float())
