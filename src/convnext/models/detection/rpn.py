"""Region proposal network (arXiv 1506.01497) on a feature pyramid.

B images, C channels, H W space, A anchors at each place, N anchors of an image. Sizes of images are (H, W) without
padding. Names are those of the official detection checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convnext.models.detection.config import RPNConfig
from convnext.ops.boxes import NEITHER, assign, decode, encode, sample, spared
from convnext.ops.instances import Instances

_UNITS = (1.0, 1.0, 1.0, 1.0)
_DIVISOR = 32  # images count as padded to a multiple of this, whatever the others of their batch need

Size = tuple[int, int]


class RPNHead(nn.Module):
    """Says for every anchor whether there is an object, and how its box differs.

    Args:
        channels: of the maps.
        strides: of the maps.
    """

    def __init__(self, channels: int, strides: Sequence[int], config: RPNConfig) -> None:
        super().__init__()
        self.config, self.strides = config, list(strides)
        self.rpn_conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.rpn_cls = nn.Conv2d(channels, len(config.ratios), 1)
        self.rpn_reg = nn.Conv2d(channels, 4 * len(config.ratios), 1)
        self.init_weights()

    def init_weights(self) -> None:
        """Normal weights of standard deviation 0.01, biases 0."""
        for module in self.children():
            nn.init.normal_(cast("Tensor", module.weight), std=0.01)
            nn.init.zeros_(cast("Tensor", module.bias))

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Maps (B, C, H, W) to logits (B, H * W * A) and offsets (B, H * W * A, 4) of each level, float32."""
        logits, offsets = [], []
        for x in maps:
            x = F.relu(self.rpn_conv(x), inplace=True)
            # (B, A * 4, H, W) -> (B, H, W, A * 4) -> (B, H * W * A, 4): anchors of a place stand side by side
            logits.append(self.rpn_cls(x).permute(0, 2, 3, 1).flatten(1).float())
            offsets.append(self.rpn_reg(x).permute(0, 2, 3, 1).reshape(len(x), -1, 4).float())
        return logits, offsets

    def anchors(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The anchors of each level, row by row: (H * W * A, 4) pixels, centred on the places' upper left corners."""
        return [
            self._level_anchors(x.shape[2], x.shape[3], s, x.device) for x, s in zip(maps, self.strides, strict=True)
        ]

    def _level_anchors(self, height: int, width: int, stride: int, device: torch.device) -> Tensor:
        tall = torch.tensor([math.sqrt(ratio) for ratio in self.config.ratios], device=device)
        half = 0.5 * self.config.anchor_scale * stride * torch.stack([1 / tall, tall], dim=1)  # (A, 2), x first
        y, x = torch.meshgrid(
            torch.arange(height, device=device) * stride, torch.arange(width, device=device) * stride, indexing="ij"
        )
        places = torch.stack([x, y], dim=-1).view(-1, 1, 2)
        return torch.cat([places - half, places + half], dim=-1).view(-1, 4)

    @torch.no_grad()
    def propose(
        self, logits: Sequence[Tensor], offsets: Sequence[Tensor], anchors: Sequence[Tensor], sizes: Sequence[Size]
    ) -> list[Tensor]:
        """The likeliest boxes of each image, the likeliest first: (at most `after_nms`, 4), within the image."""
        config = self.config
        before, after = (numbers[0 if self.training else 1] for numbers in (config.before_nms, config.after_nms))
        best, moved, places, levels = [], [], [], []
        for level, (of_level, offset, boxes) in enumerate(zip(logits, offsets, anchors, strict=True)):
            scores, chosen = of_level.sigmoid().topk(min(before, of_level.shape[1]), dim=1)
            best.append(scores)
            moved.append(offset.gather(1, chosen.unsqueeze(2).expand(-1, -1, 4)))
            places.append(boxes[chosen])
            levels.append(torch.full_like(chosen[0], level))
        scores, level_of = torch.cat(best, dim=1), torch.cat(levels)
        decoded = [
            decode(places, moved, _UNITS, size=size)
            for places, moved, size in zip(torch.cat(places, 1), torch.cat(moved, 1), sizes, strict=True)
        ]
        return [self._nms(b, s, level_of, after) for b, s in zip(decoded, scores, strict=True)]

    def _nms(self, boxes: Tensor, scores: Tensor, levels: Tensor, most: int) -> Tensor:
        """Boxes with an area, without those that overlap a likelier one of their level."""
        from torchvision.ops import batched_nms

        real = ((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])).nonzero().flatten()
        boxes = boxes[real]
        return boxes[batched_nms(boxes, scores[real], levels[real], self.config.nms_iou)[:most]]

    def losses(
        self,
        logits: Sequence[Tensor],
        offsets: Sequence[Tensor],
        anchors: Sequence[Tensor],
        sizes: Sequence[Size],
        targets: Sequence[Instances],
    ) -> dict[str, Tensor]:
        """rpn_class: is it an object; rpn_box: where. Means over the sampled anchors of all images.

        Where an image has no objects, or no background, one more counts (mmdetection's SamplingResult).
        """
        scores, moved, boxes = torch.cat(list(logits), 1), torch.cat(list(offsets), 1), torch.cat(list(anchors))
        lengths, total = [len(of_level) for of_level in anchors], 0
        class_loss, box_loss = scores.sum() * 0, moved.sum() * 0
        for image, (size, target) in enumerate(zip(sizes, targets, strict=True)):
            usable = self._usable_anchors(boxes, lengths, size)
            positives, negatives, objects = self._sample_anchors(boxes, usable, target)
            chosen = torch.cat([positives, negatives])
            truth = torch.zeros(len(chosen), device=scores.device)
            truth[: len(positives)] = 1
            class_loss = class_loss + F.binary_cross_entropy_with_logits(scores[image, chosen], truth, reduction="sum")
            wanted = encode(boxes[positives], target.boxes[objects], _UNITS)
            box_loss = box_loss + _smooth_l1(moved[image, positives], wanted, self.config.smooth)
            total += max(len(positives), 1) + max(len(negatives), 1)  # mmdetection counts no kind as less than one
        return {"rpn_class": class_loss / total, "rpn_box": box_loss / total}

    @torch.no_grad()
    def _sample_anchors(self, boxes: Tensor, usable: Tensor, target: Instances) -> tuple[Tensor, Tensor, Tensor]:
        """Indices of anchors that stand for objects, of background, and the objects of the first."""
        from torchvision.ops import box_iou

        config, places = self.config, usable.nonzero().flatten()
        assigned = torch.full((len(boxes),), NEITHER, dtype=torch.int64, device=boxes.device)
        found = assign(
            box_iou(target.boxes, boxes[places]),
            positive=config.positive_iou,
            negative=config.negative_iou,
            best_from=config.negative_iou,
        )
        assigned[places] = spared(found, boxes[places], target.ignored)
        positives, negatives = sample(assigned, count=config.samples, positive_share=0.5)
        return positives, negatives, assigned[positives]

    def _usable_anchors(self, boxes: Tensor, lengths: Sequence[int], size: Size) -> Tensor:
        """Which anchors an image teaches with: not those whose place lies beyond it, in the padding of its batch."""
        height, width = (-(-side // _DIVISOR) * _DIVISOR for side in size)
        centre = (boxes[:, :2] + boxes[:, 2:]) * 0.5
        strides = torch.tensor(self.strides, device=boxes.device).repeat_interleave(
            torch.tensor(lengths, device=boxes.device)
        )
        rows, columns = -(-height // strides) * strides, -(-width // strides) * strides
        usable = (centre[:, 0] < columns - 1) & (centre[:, 1] < rows - 1)  # centres are rounded multiples of strides
        if self.config.inside_only:
            usable &= (boxes[:, 0] >= 0) & (boxes[:, 1] >= 0) & (boxes[:, 2] < size[1]) & (boxes[:, 3] < size[0])
        return usable


def _smooth_l1(given: Tensor, wanted: Tensor, smooth: float) -> Tensor:
    """The sum of absolute differences, quadratic up to `smooth`."""
    if smooth == 0:
        return F.l1_loss(given, wanted, reduction="sum")
    return F.smooth_l1_loss(given, wanted, beta=smooth, reduction="sum")
