"""A detector and images: which objects it sees where, with the preprocessing that it was evaluated with.

H W space, N objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import torch
from PIL import Image
from torch import Tensor

from convnext.core.atomic import write_text
from convnext.core.device import Precision, pick_device, pick_dtype
from convnext.core.places import check_file, make_folder
from convnext.core.strict_json import to_json
from convnext.data.detection.transforms import image_batch
from convnext.metrics.coco_ap import results_of
from convnext.models.tta import NO_TTA, TTA
from convnext.ops.instances import Detections, above_score
from convnext.tasks.detection.draw import drawn
from convnext.tasks.detection.evaluate import detect
from convnext.tasks.detection.options import DetectionPredictOptions
from convnext.tasks.detection.weights import load_detector
from convnext.tasks.predictor import BasePredictor, BaseResult, check_channels, numbers_for
from convnext.weights.locate import WeightFile

SCORE = 0.5


@dataclass(frozen=True)
class Detection:
    """One object that the detector sees in an image."""

    label: str
    score: float
    """0..1."""
    box: tuple[float, float, float, float]
    """(x0, y0, x1, y1) in pixels of the image."""
    index: int
    """Of its class."""
    mask: Tensor | None
    """bool (H, W), the image's size; None where the detector has no masks."""


class DetectionResult(BaseResult, Sequence[Detection]):
    """The objects of an image from a score on, the surest first: a sequence of `Detection`.

    detections: all that the detector found, whatever their score, tensors on the CPU.
    """

    def __init__(
        self,
        image: Tensor,
        name: str,
        detections: Detections,
        *,
        classes: Sequence[str],
        category_ids: Sequence[int],
        score: float,
    ) -> None:
        super().__init__(image, name)
        self.detections, self.classes, self.score = detections, classes, score
        self.category_ids = category_ids
        self.objects = tuple(self._objects())

    def _objects(self) -> list[Detection]:
        found = []
        for number, value in enumerate(self.detections.scores.tolist()):
            if value >= self.score:
                x0, y0, x1, y1 = self.detections.boxes[number].tolist()
                index = int(self.detections.labels[number])
                mask = None if self.detections.masks is None else self.detections.masks[number]
                found.append(Detection(self.classes[index], value, (x0, y0, x1, y1), index, mask))
        return found

    def __len__(self) -> int:
        return len(self.objects)

    @overload
    def __getitem__(self, index: int) -> Detection: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Detection]: ...
    def __getitem__(self, index: int | slice) -> Detection | Sequence[Detection]:
        return self.objects[index]

    def rows(self) -> list[dict[str, Any]]:
        """label, index, score and box of each object."""
        return [
            {
                "label": one.label,
                "index": one.index,
                "score": round(one.score, 6),
                "box": [round(v, 2) for v in one.box],
            }
            for one in self
        ]

    def to_dict(self) -> dict[str, Any]:
        """{"name", "objects": rows}."""
        return {"name": self.name, "objects": self.rows()}

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """Every detection in COCO's form, whatever its score, masks as run lengths."""
        entries = results_of(image_id, self.detections, self.category_ids)
        return [{**entry, "file_name": self.name} for entry in entries]

    def summary(self) -> str:
        """How many of which objects there are."""
        labels = [one.label for one in self]
        counts = {label: labels.count(label) for label in dict.fromkeys(labels)}
        found = ", ".join(f"{count} {label}" for label, count in counts.items())
        return found or f"nothing from a score of {self.score:g} on"

    def plot(self) -> Image.Image:
        """The image with boxes, masks and labels."""
        shown = above_score(self.detections, self.score)
        return drawn(self.image, shown, self.classes, title=Path(self.name).name)


class Detector(BasePredictor[DetectionResult]):
    """Finds objects in images with a detector: one that was trained here, or published weights.

    Args:
        model: whatever `load_detector` takes: a run's folder, a file, a name of published weights.
        device: auto, cpu, cuda, mps.
        dtype: auto takes bfloat16 where the device is fast at it.
        tta: test-time augmentation: at which sizes each image is predicted, and whether mirrored too.
        score: from which on a result lists objects.

    Raises:
        UserError: where there is no such detector.
    """

    def __init__(
        self,
        model: str | Path | WeightFile,
        *,
        device: str = "auto",
        dtype: Precision = "auto",
        tta: TTA = NO_TTA,
        score: float = SCORE,
    ) -> None:
        self.model, self.metadata = load_detector(model, device=device)
        check_channels(self.metadata.model.backbone.in_chans, "detector")
        self.device = pick_device(device)
        self.dtype, self.tta, self.score = pick_dtype(dtype, self.device), tta, score
        count = self.metadata.model.num_classes
        self.classes = self.metadata.classes or tuple(f"class {i}" for i in range(count))
        self.category_ids = self.metadata.category_ids or tuple(range(1, 1 + count))

    @torch.inference_mode()
    def detect(self, image: Tensor) -> Detections:
        """The objects in an image of any size, uint8 (3, H, W) in RGB; tensors on the CPU."""
        config = self.metadata.input if self.tta.single else None
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            batch = image_batch([image], config)
            found = detect(self.model, batch, input=self.metadata.input, device=self.device, tta=self.tta)[0]
        return above_score(found, 0.0)

    def predict(
        self, images: Sequence[Tensor], names: Sequence[str] = (), *, score: float | None = None
    ) -> list[DetectionResult]:
        """As `BasePredictor.predict`; objects from a score on."""
        results = []
        for i, image in enumerate(images):
            name = names[i] if names else f"image {i}"
            with numbers_for(name):
                detections = self.detect(image)
            results.append(
                DetectionResult(
                    image,
                    name,
                    detections,
                    classes=self.classes,
                    category_ids=self.category_ids,
                    score=self.score if score is None else score,
                )
            )
        return results

    def __call__(self, images: Any, *, score: float | None = None) -> Any:
        """One result for one image, a list of results for many (`BasePredictor`); objects from a score on."""
        return self._call(images, lambda tensors, names: self.predict(tensors, names, score=score))


class CocoResults:
    """Collects every detection of many images for a file in COCO's form, if one is asked for."""

    def __init__(self, options: DetectionPredictOptions) -> None:
        self.path, self._entries = options.results, list[dict[str, Any]]()
        if self.path is not None:
            check_file(self.path, "--results")

    def add(self, number: int, result: DetectionResult) -> None:
        """Takes the result of image `number`, counted from 0; in the file they are numbered from 1."""
        if self.path is not None:
            self._entries += result.to_coco(number + 1)

    def close(self) -> None:
        """Writes the file."""
        if self.path is not None:
            make_folder(self.path.parent)
            write_text(self.path, to_json(self._entries) + "\n")


def predictor(model: str | Path | WeightFile, options: DetectionPredictOptions) -> Detector:
    """A predictor with a command's options."""
    tta = TTA(options.scales, options.flip)
    return Detector(model, device=options.device, dtype=options.dtype, tta=tta, score=options.score)


def collector(options: DetectionPredictOptions) -> CocoResults:
    """Writes every detection in COCO's form, if that is asked for."""
    return CocoResults(options)
