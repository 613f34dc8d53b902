"""The head that predicts an object's mask within its box (arXiv 1703.06870).

C channels, K classes, R regions, S side of a region's map. Names are those of the official detection checkpoints.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convnext.models.detection.fpn import named_conv

POOLED = 14  # side of a region's map
MASK_SIZE = 2 * POOLED  # side of a mask


class MaskHead(nn.Module):
    """Convolutions, one that doubles the side, and a mask for each class.

    Args:
        channels: of the regions' maps.
        num_classes: K.
        convs: how many convolutions.
    """

    def __init__(self, channels: int, num_classes: int, *, convs: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(*(named_conv(channels, channels, 3, act=True) for _ in range(convs)))
        self.upsample = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.conv_logits = nn.Conv2d(channels, num_classes, 1)
        self.init_weights()

    def init_weights(self) -> None:
        """Kaiming's weights, biases 0."""
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(cast("Tensor", module.bias))

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """(R, C, S, S) and classes (R,) to the logits of each region's mask for its class: (R, 2 S, 2 S), float32."""
        logits = self.conv_logits(F.relu(self.upsample(self.convs(x)), inplace=True))
        return logits[torch.arange(len(logits), device=logits.device), labels].float()


def mask_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross-entropy of logits (R, S, S) against masks, bool (R, S, S); 0 where there is no region."""
    if not len(logits):
        return logits.sum()
    return F.binary_cross_entropy_with_logits(logits, targets.float())


def mean_probability(logits: list[Tensor]) -> Tensor:
    """The mean over stages of the probabilities of masks (R, S, S)."""
    return torch.stack([of_stage.sigmoid() for of_stage in logits]).mean(0)
