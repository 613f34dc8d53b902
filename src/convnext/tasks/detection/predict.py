"""A saved detector and pictures: which objects it sees where, with the preprocessing that it was evaluated with.

H W space, N objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from convnext.core.device import Precision, pick_device, pick_dtype
from convnext.data.decode import decode
from convnext.data.detection.transforms import image_batch
from convnext.models.tta import NO_TTA, TTA
from convnext.ops.instances import Detections, above_score
from convnext.tasks.classification.predict import MAX_PIXELS
from convnext.tasks.detection.evaluation import detect
from convnext.tasks.detection.weights import load_detector


@dataclass(frozen=True)
class Detection:
    """One object that the detector sees in a picture."""

    label: str
    score: float
    """0..1."""
    box: tuple[float, float, float, float]
    """(x0, y0, x1, y1) in pixels of the picture."""
    index: int
    """Of its class."""
    mask: Tensor | None
    """bool (H, W), the picture's size; None where the detector has no masks."""


class Detector:
    """Finds objects in pictures with a detector: one that was trained here, or published weights.

    Args:
        model: whatever `load_detector` takes: a run's folder, a file, a name of published weights.
        device: auto, cpu, cuda, mps.
        dtype: auto takes bfloat16 where the device is fast at it.
        views: at which sizes each picture is looked at, and whether mirrored too.

    Raises:
        UserError: where there is no such detector.
    """

    def __init__(
        self, model: str | Path, *, device: str = "auto", dtype: Precision = "auto", views: TTA = NO_TTA
    ) -> None:
        self.model, self.metadata = load_detector(model, device=device)
        self.device = pick_device(device)
        self.dtype, self.views = pick_dtype(dtype, self.device), views
        count = self.metadata.model.num_classes
        self.classes = self.metadata.classes or tuple(f"class {i}" for i in range(count))

    @torch.inference_mode()
    def detect(self, image: Tensor) -> Detections:
        """The objects in a picture of any size, uint8 (3, H, W) in RGB; tensors on the CPU."""
        config = self.metadata.input if self.views.single else None
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            batch = image_batch([image], config)
            found = detect(self.model, batch, input=self.metadata.input, device=self.device, views=self.views)[0]
        return above_score(found, 0.0)

    def named(self, detections: Detections, *, score: float = 0.5) -> list[Detection]:
        """Detections from a score on, with the names of their classes, the surest first."""
        found = []
        for number, value in enumerate(detections.scores.tolist()):
            if value >= score:
                x0, y0, x1, y1 = detections.boxes[number].tolist()
                index = int(detections.labels[number])
                mask = None if detections.masks is None else detections.masks[number]
                found.append(Detection(self.classes[index], value, (x0, y0, x1, y1), index, mask))
        return found

    def __call__(self, picture: str | Path | bytes, *, score: float = 0.5) -> list[Detection]:
        """The objects in one picture, given as a path or as the bytes of a file. Raises BadImage."""
        data = picture if isinstance(picture, bytes) else Path(picture).read_bytes()
        name = "<bytes>" if isinstance(picture, bytes) else str(picture)
        return self.named(self.detect(decode(data, name=name, max_pixels=MAX_PIXELS)), score=score)
