"""A segmenter: a backbone with a head that gives a class for every pixel. B images, K classes, H W space.

Names are those of the official segmentation checkpoints: `backbone`, `decode_head`, `auxiliary_head`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convnext.models.network import Network
from convnext.ops.losses import pixel_cross_entropy

_AUXILIARY_WEIGHT = 0.4


class EncoderDecoder(Network):
    """What `forward` gives are losses where the classes are told, logits where they are not.

    Args:
        backbone: gives four maps; knows its blocks and depths (`models.features`).
        decode_head: all maps to logits.
        auxiliary_head: the third map to logits, which helps in training alone; None: none.
        num_classes: K.
        frozen: whether the backbone stays as it is (linear probing): no gradient, no drop path, no statistics.
    """

    def __init__(
        self,
        backbone: nn.Module,
        decode_head: nn.Module,
        auxiliary_head: nn.Module | None,
        *,
        num_classes: int,
        frozen: bool = False,
    ) -> None:
        super().__init__(backbone)
        self.decode_head, self.auxiliary_head = decode_head, auxiliary_head
        self.num_classes, self.frozen = num_classes, frozen
        if frozen:
            backbone.requires_grad_(False)

    def train(self, mode: bool = True) -> EncoderDecoder:
        """As `nn.Module.train`; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(self, images: Tensor, targets: Tensor | None = None, weights: Tensor | None = None) -> Any:
        """Losses by name (scalars, to be summed) where `targets` are given, else logits (B, K, H, W), float32.

        images: (B, 3, H, W), normalised. targets: int64 (B, H, W), `ops.losses.IGNORE_INDEX` where a pixel has no
        class. weights: float32 (K,), of each class's pixels in the losses; None: all alike.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            maps = self.backbone(images)
        logits = self.decode_head(maps)
        if targets is None:
            return F.interpolate(logits.float(), size=images.shape[2:], mode="bilinear", align_corners=False)
        losses = {"pixel": pixel_cross_entropy(logits, targets, weights)}
        if self.auxiliary_head is not None:
            losses["auxiliary"] = _AUXILIARY_WEIGHT * pixel_cross_entropy(
                self.auxiliary_head(maps[-2]), targets, weights
            )
        return losses
