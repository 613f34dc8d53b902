"""The head that predicts a region's class and box.

C channels, K classes, R regions, S side of a region's map. Names are those of the official detection checkpoints.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convnext.models.detection.config import Four, RoIConfig
from convnext.models.detection.fpn import named_conv
from convnext.ops.boxes import decode, encode

POOLED = 7  # side of a region's map
_GIOU_WEIGHT = 10.0


class BoxHead(nn.Module):
    """Convolutions, linear layers, and two outputs: a class, and offsets for each class.

    Args:
        channels: of the regions' maps.
        num_classes: K; background is class K.
        config: see `RoIConfig`.
        stds: the units of this stage's offsets.
    """

    def __init__(self, channels: int, num_classes: int, config: RoIConfig, stds: Four) -> None:
        super().__init__()
        self.num_classes, self.stds, self.giou = num_classes, stds, config.giou
        self.boxes = 1 if config.class_agnostic else num_classes  # predicted for each region
        self.shared_convs = nn.Sequential(
            *(named_conv(channels, channels, 3, norm=True, act=True) for _ in range(config.convs))
        )
        widths = [channels * POOLED**2, *[config.width] * config.fcs]
        self.shared_fcs = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.fc_cls = nn.Linear(widths[-1], num_classes + 1)
        self.fc_reg = nn.Linear(widths[-1], 4 * self.boxes)
        self.init_weights()

    def init_weights(self) -> None:
        """Kaiming's weights for convolutions, Xavier's for linear layers, small normal ones for the outputs."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.fc_cls.weight, std=0.01)
        nn.init.normal_(self.fc_reg.weight, std=0.001)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(R, C, S, S) to logits (R, K + 1), the last of background, and offsets (R, K, 4), float32.

        Class-agnostic, the offsets are (R, 1, 4).
        """
        x = self.shared_convs(x).flatten(1)
        for layer in self.shared_fcs:
            x = F.relu(layer(x), inplace=True)
        return self.fc_cls(x).float(), self.fc_reg(x).float().unflatten(1, (self.boxes, 4))

    def decode_boxes(
        self, boxes: Tensor, offsets: Tensor, labels: Tensor, size: tuple[int, int] | None = None
    ) -> Tensor:
        """Boxes (R, 4) moved by the offsets (R, K, 4) of their classes, labels (R,): (R, 4), within `size` if given."""
        return decode(boxes, self._of_classes(offsets, labels), self.stds, size=size)

    def _of_classes(self, offsets: Tensor, labels: Tensor) -> Tensor:
        """The offsets (R, 4) that belong to labels (R,)."""
        if self.boxes == 1:
            return offsets[:, 0]
        return offsets[torch.arange(len(offsets), device=offsets.device), labels]

    def losses(
        self, logits: Tensor, offsets: Tensor, labels: Tensor, boxes: Tensor, targets: Tensor
    ) -> dict[str, Tensor]:
        """class: cross-entropy over all regions; box: where those that stand for objects lie, over all regions too.

        labels: int64 (R,), K for background. boxes: (R, 4), the regions. targets: (P, 4), the objects' boxes of the P
        regions that stand for one, in their order.
        """
        objects = (labels < self.num_classes).nonzero().flatten()
        count = max(len(labels), 1)
        class_loss = F.cross_entropy(logits, labels, reduction="sum") / count
        boxes, offsets, of_class = boxes[objects], offsets[objects], labels[objects]
        if self.giou:
            from torchvision.ops import generalized_box_iou_loss

            given = self.decode_boxes(boxes, offsets, of_class)
            box_loss = _GIOU_WEIGHT * generalized_box_iou_loss(given, targets, reduction="sum")
        else:
            given = self._of_classes(offsets, of_class)
            box_loss = F.l1_loss(given, encode(boxes, targets, self.stds), reduction="sum")
        return {"class": class_loss, "box": box_loss / count}
