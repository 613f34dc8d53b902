"""A saved model and pictures: which classes it sees, with the preprocessing that it was evaluated with.

B batch, C channels, H W space, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from convnext.core.device import Precision
from convnext.core.errors import UserError
from convnext.data.decode import decode
from convnext.data.mix import prepare
from convnext.data.preprocess import eval_transform
from convnext.tasks.classification.weights import load_model

MAX_PIXELS = 100_000_000  # decompression bombs are refused before they are decoded


@dataclass(frozen=True)
class Prediction:
    """One class that the model sees in a picture."""

    label: str
    probability: float
    index: int


class Predictor:
    """Classifies pictures with a model: one that was trained here, or published weights.

    Args:
        model: whatever `load_model` takes: a run's folder, a file, a name of published weights, hf-hub:owner/name.
        device: auto, cpu, cuda, mps.
        dtype: auto takes bfloat16 where the device is fast at it.

    Raises:
        UserError: where there is no such model, or it has no classifier.
    """

    def __init__(self, model: str | Path, *, device: str = "auto", dtype: Precision = "auto") -> None:
        self.model, self.metadata = load_model(model, device=device, dtype=dtype)
        if not self.metadata.model.num_classes:
            raise UserError(f"{model} has no classifier to predict with: it gives features. Fine-tune it, with --init.")
        weight = next(self.model.parameters())
        self.device, self.dtype = weight.device, weight.dtype

    @torch.inference_mode()
    def probabilities(self, images: Sequence[Tensor]) -> Tensor:
        """Images of any size, uint8 (3, H, W) in RGB each, to probabilities (B, K), float32 on the CPU."""
        batch = torch.stack([eval_transform(image, self.metadata.input) for image in images])
        batch = prepare(batch.to(self.device), self.metadata.input)
        return self.model(batch.to(self.dtype)).float().softmax(dim=1).cpu()

    def predict(self, images: Sequence[Tensor], *, top: int = 5) -> list[list[Prediction]]:
        """The `top` likeliest classes of each image, likeliest first."""
        probabilities = self.probabilities(images)
        names = self.metadata.classes or tuple(f"class {i}" for i in range(probabilities.shape[1]))
        values, indices = probabilities.topk(min(top, len(names)))
        return [
            [Prediction(names[i], p, i) for p, i in zip(row.tolist(), places.tolist(), strict=True)]
            for row, places in zip(values, indices, strict=True)
        ]

    def __call__(self, picture: str | Path | bytes, *, top: int = 5) -> list[Prediction]:
        """The likeliest classes of one picture, given as a path or as the bytes of a file. Raises BadImage."""
        data = picture if isinstance(picture, bytes) else Path(picture).read_bytes()
        name = "<bytes>" if isinstance(picture, bytes) else str(picture)
        return self.predict([decode(data, name=name, max_pixels=MAX_PIXELS)], top=top)[0]
