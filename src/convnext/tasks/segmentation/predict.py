"""A segmenter and images: the class of each pixel, with the preprocessing that it was evaluated with.

H W space, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from convnext.core.device import Precision, pick_device, pick_dtype
from convnext.core.errors import UserError
from convnext.models.fuse import fuse
from convnext.models.segmentation.sliding_window import MEGABYTES
from convnext.models.tta import NO_TTA, TTA
from convnext.tasks.predictor import BasePredictor, BaseResult, NoCollector, check_channels, numbers_for
from convnext.tasks.segmentation.draw import index_map, overlaid
from convnext.tasks.segmentation.evaluate import segment
from convnext.tasks.segmentation.options import SegmentationPredictOptions
from convnext.tasks.segmentation.recipe import SegmentationMetadata
from convnext.tasks.segmentation.weights import load_segmenter
from convnext.weights.locate import WeightFile

_NAMED = 5  # classes that a summary names


class SegmentationResult(BaseResult):
    """The class of each pixel of an image.

    labels: uint8 (H, W), on the CPU. shares: of each class that is there its share of the pixels, 0..1, the largest
    first.
    """

    def __init__(self, image: Tensor, name: str, labels: Tensor, metadata: SegmentationMetadata) -> None:
        super().__init__(image, name)
        self.labels, self.metadata = labels, metadata
        counts = torch.bincount(labels.flatten(), minlength=len(metadata.classes)).tolist()
        named = zip(metadata.classes, counts, strict=True)
        there = [(count / labels.numel(), label) for label, count in named if count]
        self.shares = {label: share for share, label in sorted(there, reverse=True)}

    def rows(self) -> list[dict[str, Any]]:
        """label and share of each class that is there."""
        return [{"label": label, "share": round(share, 6)} for label, share in self.shares.items()]

    def to_dict(self) -> dict[str, Any]:
        """{"name", "shares": {label: share}}."""
        return {"name": self.name, "shares": {label: round(share, 6) for label, share in self.shares.items()}}

    def summary(self) -> str:
        """The largest classes and their shares."""
        few = [f"{label} {100 * share:.1f} %" for label, share in list(self.shares.items())[:_NAMED]]
        return ", ".join(few) + (", ..." if len(self.shares) > _NAMED else "")

    def plot(self) -> Image.Image:
        """The image with its classes' colours over it, and a legend."""
        title = Path(self.name).name
        return overlaid(self.image, self.labels, self.metadata.classes, self.metadata.colours, title=title)

    def label_map(self) -> Image.Image:
        """The labels as an image with a palette, each class with its value in the data set's convention."""
        return index_map(self.labels, self.metadata.values, self.metadata.colours)

    def save(self, path: str | Path) -> dict[str, Path]:
        """Writes the drawing to `path`, and the label map beside it as a PNG."""
        written = super().save(path)
        map_path = written["picture"].with_suffix(".labels.png")
        self.label_map().save(map_path)
        return {**written, "labels": map_path}


class Segmenter(BasePredictor[SegmentationResult]):
    """Predicts the class of each pixel with a segmenter: one that was trained here, or published weights.

    Args:
        model: whatever `load_segmenter` takes: a run's folder, a file, a name of published weights.
        device: auto, cpu, cuda, mps.
        dtype: auto takes bfloat16 where the device is fast at it.
        tta: test-time augmentation: at which sizes each image is predicted, and whether mirrored too.
        short, window: in place of those that it was evaluated with (`SegmentationInputConfig`); short 0: an image's own
            pixels.
        megabytes: of memory for logits; a larger image is predicted in parts.

    Raises:
        UserError: where there is no such segmenter, or settings that cannot be.
    """

    def __init__(
        self,
        model: str | Path | WeightFile,
        *,
        device: str = "auto",
        dtype: Precision = "auto",
        tta: TTA = NO_TTA,
        short: int | None = None,
        window: int | None = None,
        megabytes: int = MEGABYTES,
    ) -> None:
        if megabytes < 1:
            raise UserError(f"--megabytes is 1 or more, not {megabytes}.")
        loaded, self.metadata = load_segmenter(model, device=device)
        check_channels(self.metadata.model.backbone.in_chans, "segmenter")
        self.model = fuse(loaded)
        self.device = pick_device(device)
        self.dtype, self.tta, self.megabytes = pick_dtype(dtype, self.device), tta, megabytes
        self.input = self.metadata.input.adapted(short=short, window=window)
        self.classes, self.colours = self.metadata.classes, self.metadata.colours

    @torch.inference_mode()
    def segment(self, image: Tensor) -> Tensor:
        """The class of each pixel of an image of any size, uint8 (3, H, W) in RGB: uint8 (H, W), on the CPU."""
        found = segment(
            self.model,
            image,
            input=self.input,
            device=self.device,
            dtype=self.dtype,
            tta=self.tta,
            megabytes=self.megabytes,
        )
        return found.cpu()

    def predict(self, images: Sequence[Tensor], names: Sequence[str] = ()) -> list[SegmentationResult]:
        """As `BasePredictor.predict`."""
        results = []
        for i, image in enumerate(images):
            name = names[i] if names else f"image {i}"
            with numbers_for(name):
                labels = self.segment(image)
            results.append(SegmentationResult(image, name, labels, self.metadata))
        return results

    def __call__(self, images: Any) -> Any:
        """One result for one image, a list of results for many (`BasePredictor`)."""
        return self._call(images, self.predict)


def predictor(model: str | Path | WeightFile, options: SegmentationPredictOptions) -> Segmenter:
    """A predictor with a command's options."""
    return Segmenter(
        model,
        device=options.device,
        dtype=options.dtype,
        tta=TTA(options.scales, options.flip),
        short=options.short,
        window=options.window,
        megabytes=options.megabytes,
    )


def collector(options: SegmentationPredictOptions) -> NoCollector:
    """Nothing is written of all images together."""
    return NoCollector()
