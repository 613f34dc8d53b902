"""A saved segmenter and pictures: the class of each pixel, with the preprocessing that it was evaluated with.

H W space, K classes.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from convnext.core.device import Precision, pick_device, pick_dtype
from convnext.core.errors import UserError
from convnext.data.decode import decode
from convnext.models.fuse_network import fuse_network
from convnext.models.segmentation.sliding_window import MEGABYTES
from convnext.models.tta import NO_TTA, TTA
from convnext.tasks.classification.predict import MAX_PIXELS
from convnext.tasks.segmentation.evaluation import segment
from convnext.tasks.segmentation.weights import load_segmenter


class Segmenter:
    """Tells what each pixel of a picture is: with a segmenter that was trained here, or published weights.

    Args:
        model: whatever `load_segmenter` takes: a run's folder, a file, a name of published weights.
        device: auto, cpu, cuda, mps.
        dtype: auto takes bfloat16 where the device is fast at it.
        views: at which sizes each picture is looked at, and whether mirrored too.
        short, window: in place of those that it was evaluated with (`SegmentationInputConfig`); short 0: a picture's own pixels.
        megabytes: of memory for logits; a larger picture is judged in parts.

    Raises:
        UserError: where there is no such segmenter, or settings that cannot be.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        device: str = "auto",
        dtype: Precision = "auto",
        views: TTA = NO_TTA,
        short: int | None = None,
        window: int | None = None,
        megabytes: int = MEGABYTES,
    ) -> None:
        loaded, self.metadata = load_segmenter(model, device=device)
        self.model = fuse_network(loaded)
        self.device = pick_device(device)
        self.dtype, self.views, self.megabytes = pick_dtype(dtype, self.device), views, megabytes
        self.input = self.metadata.input.adapted(short=short, window=window)
        if megabytes < 1:
            raise UserError(f"--megabytes is 1 or more, not {megabytes}.")
        self.classes, self.colours = self.metadata.classes, self.metadata.colours

    @torch.inference_mode()
    def segment(self, image: Tensor) -> Tensor:
        """The class of each pixel of a picture of any size, uint8 (3, H, W) in RGB: uint8 (H, W), on the CPU."""
        found = segment(
            self.model,
            image,
            input=self.input,
            device=self.device,
            dtype=self.dtype,
            views=self.views,
            megabytes=self.megabytes,
        )
        return found.cpu()

    def shares(self, labels: Tensor) -> dict[str, float]:
        """Of each class that is there its share of the pixels, 0..1, the largest first."""
        counts = torch.bincount(labels.flatten(), minlength=len(self.classes)).tolist()
        there = [(count / labels.numel(), name) for name, count in zip(self.classes, counts, strict=True) if count]
        return {name: share for share, name in sorted(there, reverse=True)}

    def __call__(self, picture: str | Path | bytes) -> Tensor:
        """The class of each pixel of one picture, given as a path or as the bytes of a file. Raises BadImage."""
        data = picture if isinstance(picture, bytes) else Path(picture).read_bytes()
        name = "<bytes>" if isinstance(picture, bytes) else str(picture)
        return self.segment(decode(data, name=name, max_pixels=MAX_PIXELS))
