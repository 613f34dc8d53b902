"""Objects in an image: annotated ones and detected ones.

N objects, H W space. Boxes are (x0, y0, x1, y1) in pixels: x to the right, y down, (0, 0) the upper left corner of the
upper left pixel, x1 and y1 just after the last pixel (COCO's x + width, y + height).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Instances(NamedTuple):
    """The annotated objects of an image."""

    boxes: Tensor
    """float32 (N, 4)."""
    labels: Tensor
    """int64 (N,): class indices."""
    masks: Tensor | None = None
    """bool (N, H, W): the pixels of each object; None where there are only boxes."""
    outlined: Tensor | None = None
    """bool (N,): which objects have a mask (that of another says nothing); None: all of them."""
    ignored: Tensor | None = None
    """float32 (R, 4): regions that are neither objects nor background, as crowds; None: none."""

    def to(self, device: torch.device) -> Instances:
        """Moves the tensors to a device."""

        def moved(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device, non_blocking=True)

        boxes, labels = self.boxes.to(device, non_blocking=True), self.labels.to(device, non_blocking=True)
        return Instances(boxes, labels, moved(self.masks), moved(self.outlined), moved(self.ignored))


class Detections(NamedTuple):
    """The objects that a detector found in an image, by descending score."""

    boxes: Tensor
    """float32 (N, 4), in pixels of the original image and within it."""
    scores: Tensor
    """float32 (N,), in 0..1."""
    labels: Tensor
    """int64 (N,): class indices."""
    masks: Tensor | None = None
    """bool (N, H, W), of the image's size; None where the detector has no masks."""


def above_score(detections: Detections, score: float) -> Detections:
    """The detections whose score is at least `score`, on the CPU."""
    kept = (detections.scores >= score).nonzero().flatten()
    masks = None if detections.masks is None else detections.masks[kept].cpu()
    return Detections(detections.boxes[kept].cpu(), detections.scores[kept].cpu(), detections.labels[kept].cpu(), masks)
