"""Everything on regions: which of them stand for objects, their classes, boxes and masks, in one stage or in a cascade
(arXiv 1712.00726).

B images, C channels, K classes, N boxes of an image, R regions of all images. Sizes of images are (H, W), without
padding. Names are those of the official detection checkpoints: a cascade's heads have numbers, a single stage's none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from convnext.models.detection import box_head, mask_head
from convnext.models.detection.box_head import BoxHead
from convnext.models.detection.config import RoIConfig
from convnext.models.detection.mask_head import MaskHead, mask_loss, mean_probability
from convnext.models.network import check_finite
from convnext.ops.boxes import assign, clip, sample, spared
from convnext.ops.instances import Detections, Instances
from convnext.ops.roi import Pooled, crop_masks, paste_masks, pool_regions, regions

Size = tuple[int, int]


class Sampled(NamedTuple):
    """The regions of an image that its loss is taken over, those that stand for objects first."""

    boxes: Tensor
    """(N, 4)."""
    objects: Tensor
    """int64 (P,): which object each of the first P regions stands for."""
    ground_truth: Tensor
    """bool (N,): whether it is a ground-truth box, put among the proposals."""


class BoxPredictions(NamedTuple):
    """What the box heads predict for proposals."""

    boxes: list[Tensor]
    """Of each image (N, 4): the regions of the last stage."""
    logits: list[Tensor]
    """Of each image (N, K + 1): the mean over stages."""
    offsets: list[Tensor]
    """Of each image (N, K, 4): those of the last stage."""


class RoIHeads(nn.Module):
    """Box heads and mask heads, one of each for every stage.

    Args:
        channels: of the maps.
        strides: of the maps that regions are taken from: all but a pyramid's coarsest.
        num_classes: K.
        masks: whether there are mask heads.
    """

    def __init__(
        self, channels: int, strides: Sequence[int], num_classes: int, config: RoIConfig, *, masks: bool = True
    ) -> None:
        super().__init__()
        if not len(config.ious) == len(config.stds) == len(config.weights) > 0:
            raise ValueError("A detector's ious, stds and weights have one entry for each stage.")
        self.config, self.strides, self.num_classes = config, list(strides), num_classes
        boxes: list[nn.Module] = [BoxHead(channels, num_classes, config, stds) for stds in config.stds]
        self.bbox_head = boxes[0] if len(boxes) == 1 else nn.ModuleList(boxes)
        self.mask_head = None
        if masks:
            mask_heads: list[nn.Module] = [
                MaskHead(channels, num_classes, convs=config.mask_convs) for _ in config.stds
            ]
            self.mask_head = mask_heads[0] if len(mask_heads) == 1 else nn.ModuleList(mask_heads)

    @property
    def box_stages(self) -> list[BoxHead]:
        """The box head of each stage."""
        heads = list(self.bbox_head) if isinstance(self.bbox_head, nn.ModuleList) else [self.bbox_head]
        return cast("list[BoxHead]", heads)

    @property
    def mask_stages(self) -> list[MaskHead]:
        """The mask head of each stage, none where there are no masks."""
        if self.mask_head is None:
            return []
        heads = list(self.mask_head) if isinstance(self.mask_head, nn.ModuleList) else [self.mask_head]
        return cast("list[MaskHead]", heads)

    def _contiguous_maps(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The maps that regions are taken from, in the layout that RoIAlign reads: else every stage and head copies."""
        return [x.contiguous() for x in maps[: len(self.strides)]]

    def _pool(self, maps: Sequence[Tensor], rois: Tensor, side: int) -> Pooled:
        return pool_regions(maps[: len(self.strides)], rois, self.strides, side)

    def box_forward(self, head: BoxHead, maps: Sequence[Tensor], rois: Tensor) -> tuple[Tensor, Tensor]:
        """The logits (R, K + 1) and offsets (R, K, 4) that a stage's box head gives for regions (R, 5)."""
        pooled = self._pool(maps, rois, box_head.POOLED)
        logits, offsets = head(pooled.maps)
        return pooled.restored(logits), pooled.restored(offsets)

    # Training

    def losses(
        self, maps: Sequence[Tensor], proposals: Sequence[Tensor], sizes: Sequence[Size], targets: Sequence[Instances]
    ) -> dict[str, Tensor]:
        """class, box and mask losses of every stage, times its weight; in a cascade with its number in front."""
        maps = self._contiguous_maps(maps)
        found: dict[str, Tensor] = {}
        boxes, stages = list(proposals), self.box_stages
        for stage, head in enumerate(stages):
            sampled = [self._sample_proposals(stage, *each) for each in zip(boxes, sizes, targets, strict=True)]
            rois = regions([each.boxes for each in sampled])
            logits, offsets = self.box_forward(head, maps, rois)
            labels = torch.cat([self._labels(each, target) for each, target in zip(sampled, targets, strict=True)])
            wanted = torch.cat([t.boxes[each.objects] for each, t in zip(sampled, targets, strict=True)])
            losses = head.losses(logits, offsets, labels, rois[:, 1:], wanted)
            if self.mask_stages:
                losses["mask"] = self._mask_loss(stage, maps, sampled, targets)
            prefix = f"{stage}_" if len(stages) > 1 else ""
            found |= {f"{prefix}{name}": self.config.weights[stage] * value for name, value in losses.items()}
            if stage + 1 < len(stages):
                boxes = self.refine_boxes(head, sampled, logits, offsets, labels, sizes)
        return found

    @torch.no_grad()
    def _sample_proposals(self, stage: int, proposals: Tensor, size: Size, target: Instances) -> Sampled:
        """The objects' own boxes are put among the proposals, in front of them."""
        from torchvision.ops import box_iou

        iou, objects = self.config.ious[stage], len(target.boxes)
        if objects + len(proposals) == 0:
            proposals = proposals.new_tensor([[0.0, 0.0, size[1], size[0]]])  # the whole image, as background
        assigned = assign(
            box_iou(target.boxes, proposals),
            positive=iou,
            negative=iou,
            best_from=iou if self.config.best_too else None,
        )
        assigned = spared(assigned, proposals, target.ignored)
        assigned = torch.cat([torch.arange(objects, device=assigned.device), assigned])
        config, boxes = self.config, torch.cat([target.boxes, proposals])
        positives, negatives = sample(assigned, count=config.samples, positive_share=config.positive_share)
        chosen = torch.cat([positives, negatives])
        return Sampled(boxes[chosen], assigned[positives], chosen < objects)

    def _labels(self, sampled: Sampled, target: Instances) -> Tensor:
        background = len(sampled.boxes) - len(sampled.objects)
        return torch.cat([target.labels[sampled.objects], target.labels.new_full((background,), self.num_classes)])

    def _mask_loss(
        self, stage: int, maps: Sequence[Tensor], sampled: Sequence[Sampled], targets: Sequence[Instances]
    ) -> Tensor:
        taught = [_outlined(each.objects, target) for each, target in zip(sampled, targets, strict=True)]
        boxes = [each.boxes[: len(each.objects)][kept] for each, kept in zip(sampled, taught, strict=True)]
        objects = [each.objects[kept] for each, kept in zip(sampled, taught, strict=True)]
        labels = torch.cat([target.labels[which] for which, target in zip(objects, targets, strict=True)])
        pooled = self._pool(maps, regions(boxes), mask_head.POOLED)
        logits = pooled.restored(self.mask_stages[stage](pooled.maps, labels[pooled.order]))
        wanted = []
        for of_image, which, target in zip(boxes, objects, targets, strict=True):
            assert target.masks is not None, "a detector with masks learns from objects with masks"
            wanted.append(crop_masks(target.masks, of_image, which, mask_head.MASK_SIZE))
        return mask_loss(logits, torch.cat(wanted))

    @torch.no_grad()
    def refine_boxes(
        self,
        head: BoxHead,
        sampled: Sequence[Sampled],
        logits: Tensor,
        offsets: Tensor,
        labels: Tensor,
        sizes: Sequence[Size],
    ) -> list[Tensor]:
        """The regions moved by this stage's offsets, without the ground-truth boxes: the next stage's proposals."""
        classes = torch.where(labels == self.num_classes, logits[:, :-1].argmax(dim=1), labels)
        counts, refined = [len(each.boxes) for each in sampled], []
        for each, offset, kind, size in zip(sampled, offsets.split(counts), classes.split(counts), sizes, strict=True):
            refined.append(head.decode_boxes(each.boxes, offset, kind, size)[~each.ground_truth])
        return refined

    # Prediction

    def predict(
        self,
        maps: Sequence[Tensor],
        proposals: Sequence[Tensor],
        sizes: Sequence[Size],
        originals: Sequence[Size],
    ) -> list[Detections]:
        """The objects in each image, in pixels of the original images, of size `originals`."""
        maps = self._contiguous_maps(maps)
        predicted = self.predict_boxes(maps, proposals, sizes)
        found = [self.postprocess_detections(*each) for each in zip(*predicted, sizes, strict=True)]
        boxes, labels = [each.boxes for each in found], [each.labels for each in found]
        masks = self.predict_masks(maps, boxes, labels)
        return [
            self.rescale_detections(each, mask, size, original)
            for each, mask, size, original in zip(found, masks, sizes, originals, strict=True)
        ]

    def predict_boxes(
        self, maps: Sequence[Tensor], proposals: Sequence[Tensor], sizes: Sequence[Size]
    ) -> BoxPredictions:
        """What the box heads predict for proposals (N, 4) of each image; each stage refines the last one's boxes.

        Raises NotFinite where that is not numbers.
        """
        boxes, total, stages = list(proposals), None, self.box_stages
        counts = [len(of_image) for of_image in boxes]
        logits = offsets = torch.empty(0)
        for stage, head in enumerate(stages):
            logits, offsets = self.box_forward(head, maps, regions(boxes))
            total = logits if total is None else total + logits
            if stage + 1 < len(stages):
                kinds = logits[:, :-1].argmax(dim=1).split(counts)
                boxes = [
                    head.decode_boxes(*each) for each in zip(boxes, offsets.split(counts), kinds, sizes, strict=True)
                ]
        assert total is not None
        check_finite([total, offsets])
        return BoxPredictions(boxes, list((total / len(stages)).split(counts)), list(offsets.split(counts)))

    def postprocess_detections(self, boxes: Tensor, logits: Tensor, offsets: Tensor, size: Size) -> Detections:
        """Score threshold, NMS within each class, and the detections of the highest scores of an image.

        Boxes in pixels of the image as the model sees it.
        """
        from torchvision.ops import batched_nms

        scores = logits.softmax(dim=1)[:, :-1]
        which, labels = (scores > self.config.score).nonzero(as_tuple=True)
        scores = scores[which, labels]
        moved = self.box_stages[-1].decode_boxes(boxes[which], offsets[which], labels, size)
        kept = batched_nms(moved, scores, labels, self.config.nms_iou)[: self.config.most]
        return Detections(moved[kept], scores[kept], labels[kept])

    def predict_masks(
        self, maps: Sequence[Tensor], boxes: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> list[Tensor | None]:
        """The probabilities (N, 28, 28) of the masks of each image's objects; None without mask heads."""
        if not self.mask_stages:
            return [None] * len(boxes)
        pooled = self._pool(maps, regions(boxes), mask_head.POOLED)
        kinds = torch.cat(list(labels))[pooled.order]
        predicted = pooled.restored(mean_probability([head(pooled.maps, kinds) for head in self.mask_stages]))
        return list(predicted.split([len(of_image) for of_image in boxes]))

    def rescale_detections(self, found: Detections, masks: Tensor | None, size: Size, original: Size) -> Detections:
        """Detections in an image of `size`, in pixels of the original image of size `original`; masks are pasted."""
        scale = found.boxes.new_tensor([size[1] / original[1], size[0] / original[0]] * 2)
        boxes = clip(found.boxes / scale, original)
        pasted = None
        if masks is not None:
            pasted = paste_masks(masks, boxes, original, threshold=self.config.mask_threshold)
        return Detections(boxes, found.scores, found.labels, pasted)


def _outlined(objects: Tensor, target: Instances) -> Tensor:
    """Places of those objects (indices into an image's) that have a mask to learn from."""
    if target.outlined is None:
        return torch.arange(len(objects), device=objects.device)
    return target.outlined[objects].nonzero().flatten()
