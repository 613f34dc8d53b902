"""Test-time augmentation of a detector: one image at several sizes and mirrored, its detections merged.

N objects, H W space. Sizes are (H, W).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from convnext.models.detection.rcnn import RCNN
from convnext.ops.boxes import clip
from convnext.ops.instances import Detections
from convnext.ops.roi import paste_masks

Size = tuple[int, int]


class AugmentedImage(NamedTuple):
    """An image at one size, mirrored or not, as the detector takes it."""

    image: Tensor
    """(1, 3, H, W): normalised, padded on the right and below with zeros."""
    size: Size
    """Without padding."""
    flipped: bool
    """Whether it is mirrored from left to right."""


def detect_tta(model: RCNN, augmented: Sequence[AugmentedImage], original: Size) -> Detections:
    """The objects of one image of size `original`, in its pixels, from all its augmentations.

    The detections of all are put together, and of those that overlap the one of the highest score stays (NMS); its mask
    is the mean of the masks that all augmentations predict in its box (mmdetection 2's `aug_test`, but that regions are
    proposed for each augmentation on its own).
    """
    from torchvision.ops import batched_nms

    head, maps, found = model.roi_head, [], []
    for image in augmented:
        maps.append(model.maps(image.image))
        predictions = head.predict_boxes(maps[-1], model.proposals(maps[-1], [image.size]), [image.size])
        one = head.postprocess_detections(
            predictions.boxes[0], predictions.logits[0], predictions.offsets[0], image.size
        )
        found.append(one._replace(boxes=_to_original(one.boxes, image, original)))
    boxes, scores, labels = (torch.cat([getattr(one, part) for one in found]) for part in ("boxes", "scores", "labels"))
    kept = batched_nms(boxes, scores, labels, head.config.nms_iou)[: head.config.most]
    merged = Detections(clip(boxes[kept], original), scores[kept], labels[kept])
    if not head.mask_stages:
        return merged
    predicted = []
    for image, of_image in zip(augmented, maps, strict=True):
        masks = head.predict_masks(of_image, [_to_augmented(merged.boxes, image, original)], [merged.labels])[0]
        assert masks is not None
        predicted.append(masks.flip(2) if image.flipped else masks)
    mean = torch.stack(predicted).mean(0)
    return merged._replace(masks=paste_masks(mean, merged.boxes, original, threshold=head.config.mask_threshold))


def _scale(boxes: Tensor, image: AugmentedImage, original: Size) -> Tensor:
    return boxes.new_tensor([image.size[1] / original[1], image.size[0] / original[0]] * 2)


def _to_original(boxes: Tensor, image: AugmentedImage, original: Size) -> Tensor:
    boxes = boxes / _scale(boxes, image, original)
    return _flipped(boxes, original[1]) if image.flipped else boxes


def _to_augmented(boxes: Tensor, image: AugmentedImage, original: Size) -> Tensor:
    boxes = _flipped(boxes, original[1]) if image.flipped else boxes
    return boxes * _scale(boxes, image, original)


def _flipped(boxes: Tensor, width: int) -> Tensor:
    x0, y0, x1, y1 = boxes.unbind(1)
    return torch.stack([width - x1, y0, width - x0, y1], dim=1)
