"""Several views of one picture, judged together: other sizes, mirror images (test-time augmentation).

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


class View(NamedTuple):
    """A picture as the detector is to see it once."""

    image: Tensor
    """(1, 3, H, W): normalised, padded on the right and below with zeros."""
    size: Size
    """Without padding."""
    mirrored: bool


def detect_tta(model: RCNN, views: Sequence[View], original: Size) -> Detections:
    """The objects of one picture of size `original`, from all views of it.

    Each view's detections are put together, and of those that overlap the surest stays; its mask is the mean of what
    all views draw in its box (mmdetection 2's `aug_test`, but that regions are proposed for each view on its own).
    """
    from torchvision.ops import batched_nms

    head, maps, found = model.roi_head, [], []
    for view in views:
        maps.append(model.maps(view.image))
        scored = head.score(maps[-1], model.proposals(maps[-1], [view.size]), [view.size])
        one = head.detect(scored.boxes[0], scored.logits[0], scored.offsets[0], view.size)
        found.append(one._replace(boxes=_to_picture(one.boxes, view, original)))
    boxes, scores, labels = (torch.cat([getattr(one, part) for one in found]) for part in ("boxes", "scores", "labels"))
    kept = batched_nms(boxes, scores, labels, head.config.nms_iou)[: head.config.most]
    merged = Detections(clip(boxes[kept], original), scores[kept], labels[kept])
    if not head.mask_stages:
        return merged
    drawn = []
    for view, of_view in zip(views, maps, strict=True):
        masks = head.draw(of_view, [_to_view(merged.boxes, view, original)], [merged.labels])[0]
        assert masks is not None
        drawn.append(masks.flip(2) if view.mirrored else masks)
    mean = torch.stack(drawn).mean(0)
    return merged._replace(masks=paste_masks(mean, merged.boxes, original, threshold=head.config.mask_threshold))


def _scale(boxes: Tensor, view: View, original: Size) -> Tensor:
    return boxes.new_tensor([view.size[1] / original[1], view.size[0] / original[0]] * 2)


def _to_picture(boxes: Tensor, view: View, original: Size) -> Tensor:
    boxes = boxes / _scale(boxes, view, original)
    return _mirrored(boxes, original[1]) if view.mirrored else boxes


def _to_view(boxes: Tensor, view: View, original: Size) -> Tensor:
    boxes = _mirrored(boxes, original[1]) if view.mirrored else boxes
    return boxes * _scale(boxes, view, original)


def _mirrored(boxes: Tensor, width: int) -> Tensor:
    x0, y0, x1, y1 = boxes.unbind(1)
    return torch.stack([width - x1, y0, width - x0, y1], dim=1)
