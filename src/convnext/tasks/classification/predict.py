"""A classifier and images: which classes it sees, with the preprocessing that it was evaluated with.

B batch, C channels, H W space, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import torch
from PIL import Image
from torch import Tensor

from convnext.core.device import Precision
from convnext.core.errors import UserError
from convnext.data.inputs import WrongImage
from convnext.data.mix import prepare
from convnext.data.preprocess import eval_transform
from convnext.metrics.multilabel import THRESHOLD
from convnext.tasks.classification.draw import annotated
from convnext.tasks.classification.options import ClassificationPredictOptions
from convnext.tasks.classification.weights import load_model
from convnext.tasks.predictor import BasePredictor, BaseResult, NoCollector, no_numbers
from convnext.weights.locate import WeightFile

TOP = 5


@dataclass(frozen=True)
class Prediction:
    """One class that the model sees in an image."""

    label: str
    probability: float
    index: int


class ClassificationResult(BaseResult, Sequence[Prediction]):
    """The likeliest classes of an image, likeliest first: a sequence of `Prediction`.

    probabilities: float32 (K,), of all classes.
    """

    def __init__(self, image: Tensor, name: str, predictions: Sequence[Prediction], probabilities: Tensor) -> None:
        super().__init__(image, name)
        self.predictions, self.probabilities = tuple(predictions), probabilities

    def __len__(self) -> int:
        return len(self.predictions)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Prediction]: ...
    def __getitem__(self, index: int | slice) -> Prediction | Sequence[Prediction]:
        return self.predictions[index]

    def rows(self) -> list[dict[str, Any]]:
        """label, index and probability of each class."""
        return [{"label": p.label, "index": p.index, "probability": round(p.probability, 6)} for p in self]

    def to_dict(self) -> dict[str, Any]:
        """{"name", "classes": rows}."""
        return {"name": self.name, "classes": self.rows()}

    def summary(self) -> str:
        """The classes with their probabilities."""
        return ", ".join(f"{p.label} {100 * p.probability:.1f} %" for p in self)

    def plot(self) -> Image.Image:
        """The image with a panel of its classes."""
        return annotated(self.image, [(p.label, p.probability) for p in self], title=Path(self.name).name)


class LabelsResult(ClassificationResult):
    """The labels of an image that reach their thresholds, likeliest first; there can be none.

    probabilities: float32 (K,), of all labels, each on its own in 0..1. likeliest: the label of the greatest, whether
    or not it is given.
    """

    def __init__(
        self,
        image: Tensor,
        name: str,
        predictions: Sequence[Prediction],
        probabilities: Tensor,
        likeliest: Prediction,
    ) -> None:
        super().__init__(image, name, predictions, probabilities)
        self.likeliest = likeliest

    def to_dict(self) -> dict[str, Any]:
        """{"name", "labels": rows}."""
        return {"name": self.name, "labels": self.rows()}

    def summary(self) -> str:
        """The labels with their probabilities."""
        likeliest = self.likeliest
        return super().summary() or f"no label (the likeliest: {likeliest.label} {100 * likeliest.probability:.1f} %)"

    def plot(self) -> Image.Image:
        """The image with a panel of its labels."""
        lines = [(p.label, p.probability) for p in self] or [
            (f"no label; likeliest: {self.likeliest.label}", self.likeliest.probability)
        ]
        return annotated(self.image, lines, title=Path(self.name).name)


class Classifier(BasePredictor[ClassificationResult]):
    """Classifies images with a model: one that was trained here, or published weights.

    Args:
        model: whatever `load_model` takes: a run's folder, a file, a name of published weights, hf-hub:owner/name.
        device: auto, cpu, cuda, mps.
        dtype: auto takes bfloat16 where the device is fast at it.
        top: how many classes a result names.

    Raises:
        UserError: where there is no such model, or it has no classifier.
    """

    batch_size = 32

    def __init__(
        self, model: str | Path | WeightFile, *, device: str = "auto", dtype: Precision = "auto", top: int = TOP
    ) -> None:
        self.model, self.metadata = load_model(model, device=device, dtype=dtype)
        if not self.metadata.model.num_classes:
            what = model.source if isinstance(model, WeightFile) else model
            raise UserError(f"{what} has no classifier to predict with: it gives features. Fine-tune it, with --init.")
        self.bands, self.white = self.metadata.model.in_chans, self.metadata.input.white
        weight = next(self.model.parameters())
        self.device, self.dtype, self.top = weight.device, weight.dtype, top
        count = self.metadata.model.num_classes
        self.classes = self.metadata.classes or tuple(f"class {i}" for i in range(count))
        self.thresholds = self.metadata.thresholds or (THRESHOLD,) * count

    @torch.inference_mode()
    def probabilities(self, images: Sequence[Tensor]) -> Tensor:
        """Images of any size, uint8 (3, H, W) in RGB each, to probabilities (B, K), float32 on the CPU.

        A model of other bands takes (bands, H, W), as `read` gives them. Raises WrongImage for other images.
        """
        wrong = next((image for image in images if image.shape[0] != self.bands), None)
        if wrong is not None:
            raise WrongImage(f"The model takes images of {self.bands} bands, and one has {wrong.shape[0]}.")
        batch = torch.stack([eval_transform(image, self.metadata.input) for image in images])
        batch = prepare(batch.to(self.device), self.metadata.input)
        logits = self.model(batch.to(self.dtype)).float()
        return (logits.sigmoid() if self.metadata.multi_label else logits.softmax(dim=1)).cpu()

    def predict(
        self, images: Sequence[Tensor], names: Sequence[str] = (), *, top: int | None = None
    ) -> list[ClassificationResult]:
        """As `BasePredictor.predict`; the `top` likeliest classes of each; or, where an image can have several labels
        (`metadata.multi_label`), a `LabelsResult` with all that reach their thresholds."""
        probabilities = self.probabilities(images)
        for i, total in enumerate(probabilities.sum(dim=1).tolist()):
            if not math.isfinite(total):
                raise no_numbers(f"the model gives for {names[i] if names else f'image {i}'}")
        if self.metadata.multi_label:
            return [
                self._labels(image, names[i] if names else f"image {i}", probabilities[i])
                for i, image in enumerate(images)
            ]
        values, indices = probabilities.topk(min(top or self.top, len(self.classes)))
        results = []
        for i, (row, places) in enumerate(zip(values.tolist(), indices.tolist(), strict=True)):
            found = [Prediction(self.classes[k], p, k) for p, k in zip(row, places, strict=True)]
            name = names[i] if names else f"image {i}"
            results.append(ClassificationResult(images[i], name, found, probabilities[i]))
        return results

    def _labels(self, image: Tensor, name: str, probabilities: Tensor) -> LabelsResult:
        values, thresholds = probabilities.tolist(), self.thresholds
        ranked = [
            Prediction(self.classes[k], values[k], k)
            for k in probabilities.argsort(descending=True, stable=True).tolist()
        ]
        given = [found for found in ranked if found.probability >= thresholds[found.index]]
        return LabelsResult(image, name, given, probabilities, ranked[0])

    def __call__(self, images: Any, *, top: int | None = None) -> Any:
        """One result for one image, a list of results for many (`BasePredictor`); the `top` likeliest classes."""
        return self._call(images, lambda tensors, names: self.predict(tensors, names, top=top))


def predictor(model: str | Path | WeightFile, options: ClassificationPredictOptions) -> Classifier:
    """A predictor with a command's options."""
    return Classifier(model, device=options.device, dtype=options.dtype, top=options.top)


def collector(options: ClassificationPredictOptions) -> NoCollector:
    """Nothing is written of all images together."""
    return NoCollector()
