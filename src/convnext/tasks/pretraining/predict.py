"""An autoencoder and images: each with some cells masked, and what it makes of them. C channels, S the model's size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from convnext.core.console import percent
from convnext.core.device import Precision, pick_device, pick_dtype
from convnext.data.preprocess import eval_transform
from convnext.data.pretraining.batch import mask_of
from convnext.tasks.predictor import BasePredictor, BaseResult, NoCollector, check_channels, no_numbers
from convnext.tasks.pretraining.draw import panels, reconstruct
from convnext.tasks.pretraining.evaluate import masking_of
from convnext.tasks.pretraining.options import PretrainingPredictOptions
from convnext.tasks.pretraining.weights import load_autoencoder
from convnext.weights.locate import WeightFile


class PretrainingResult(BaseResult):
    """An image of which a part was hidden, and what the autoencoder made of that part.

    seen: uint8 (C, S, S), the image as the model takes it. mask: bool (h, w), True where hidden. reconstruction: uint8
    (C, S, S). explained: the share of the hidden cells' variance that it explains; None where nothing varies.
    """

    def __init__(
        self, image: Tensor, name: str, *, seen: Tensor, mask: Tensor, reconstruction: Tensor, explained: float | None
    ) -> None:
        super().__init__(image, name)
        self.seen, self.mask, self.reconstruction, self.explained = seen, mask, reconstruction, explained

    def rows(self) -> list[dict[str, Any]]:
        """One: explained, cells and hidden cells."""
        return [{"explained": self.explained, "cells": self.mask.numel(), "hidden": int(self.mask.sum())}]

    def to_dict(self) -> dict[str, Any]:
        """{"name", "explained", "cells", "hidden"}."""
        return {"name": self.name, **self.rows()[0]}

    def summary(self) -> str:
        """How much of what was hidden it explains."""
        return f"explains {percent(self.explained)} of {int(self.mask.sum())} hidden cells of {self.mask.numel()}"

    def plot(self) -> Image.Image:
        """The image, what was seen of it, and the reconstruction, side by side."""
        return panels(self.seen, self.mask, self.reconstruction)


class Autoencoder(BasePredictor[PretrainingResult]):
    """Hides a part of images and reconstructs it.

    Args:
        model: whatever `load_autoencoder` takes: a run's folder, or a file.
        device: auto, cpu, cuda, mps.
        dtype: auto takes bfloat16 where the device is fast at it.
        mask_seed: which cells are hidden.

    Raises UserError where there is no such autoencoder.
    """

    def __init__(
        self, model: str | Path | WeightFile, *, device: str = "auto", dtype: Precision = "auto", mask_seed: int = 0
    ) -> None:
        self.loaded = load_autoencoder(model, device=device)
        self.metadata, self.mask_seed = self.loaded.metadata, mask_seed
        check_channels(self.metadata.model.backbone.in_chans, "autoencoder")
        self.device = pick_device(device)
        self.dtype = pick_dtype(dtype, self.device)

    @torch.inference_mode()
    def predict(self, images: Sequence[Tensor], names: Sequence[str] = ()) -> list[PretrainingResult]:
        """As `BasePredictor.predict`."""
        input, masking = self.metadata.input, masking_of(self.loaded, self.mask_seed)
        results = []
        for number, image in enumerate(images):
            name = names[number] if names else f"image {number}"
            seen = eval_transform(image, input)
            mask = mask_of(0, epoch=0, size=input.size, masking=masking)
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                drawn, found = reconstruct(self.loaded.model, seen[None], mask[None], input)
            errors = float(found.losses.double().sum())
            if not math.isfinite(errors):
                raise no_numbers(f"the model gives for {name}")
            hidden = mask.flatten().to(found.target.device)
            variances = float(found.target[0].double().var(dim=-1, unbiased=False)[hidden].sum())
            explained = 1 - errors / variances if variances else None
            results.append(
                PretrainingResult(image, name, seen=seen, mask=mask, reconstruction=drawn[0], explained=explained)
            )
        return results

    def __call__(self, images: Any) -> Any:
        """One result for one image, a list of results for many (`BasePredictor`)."""
        return self._call(images, self.predict)


def predictor(model: str | Path | WeightFile, options: PretrainingPredictOptions) -> Autoencoder:
    """A predictor with a command's options."""
    return Autoencoder(model, device=options.device, dtype=options.dtype, mask_seed=options.mask_seed)


def collector(options: PretrainingPredictOptions) -> NoCollector:
    """Nothing is written of all images together."""
    return NoCollector()
