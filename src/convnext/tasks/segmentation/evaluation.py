"""Semantic segmentation: the loss of a class for every pixel, evaluation in mIoU.

B batch, H W space, K classes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from convnext.core import distributed
from convnext.core.logs import Progress
from convnext.data.config import InputConfig, LoaderConfig
from convnext.data.loader import BadImages, eval_batches, resolved_workers
from convnext.data.mix import prepare
from convnext.data.resize import resized_image
from convnext.data.segmentation.config import SegmentationInputConfig
from convnext.data.segmentation.label_maps import LabelMapDataset
from convnext.data.segmentation.transforms import fitted_size, load_eval_batch
from convnext.metrics.miou import SegmentationFigures, confusion, segmentation_figures
from convnext.models.segmentation.encoder_decoder import EncoderDecoder
from convnext.models.segmentation.sliding_window import MEGABYTES, SlidingWindow, View, segment_tta
from convnext.models.tta import NO_TTA, TTA

_AT_A_TIME = 4  # windows, on a GPU


@dataclass(frozen=True)
class Evaluation:
    """The figures of a segmenter on pictures, and the speed they came at."""

    figures: SegmentationFigures
    counts: Tensor
    """int64 (K, K), on the CPU: pixels of a class (row) that were taken for a class (column)."""
    images_per_second: float


def flat(figures: SegmentationFigures) -> dict[str, float]:
    """The figures that a log holds; 0 where undefined."""
    return {name: getattr(figures, name) or 0.0 for name in ("mIoU", "mAcc", "aAcc")}


@torch.inference_mode()
def evaluate(
    model: EncoderDecoder,
    source: LabelMapDataset,
    *,
    input: SegmentationInputConfig,
    loader: LoaderConfig,
    device: torch.device,
    bad: BadImages,
    dtype: torch.dtype = torch.float32,
    views: TTA = NO_TTA,
) -> Evaluation:
    """Every picture of `source` once, over all ranks, judged at its own size. Rates count pictures a second, reading
    included."""
    world = distributed.world_size()
    batches = eval_batches(
        partial(load_eval_batch, source=source),
        num_images=len(source),
        batch_size=1,  # pictures have sizes of their own; the windows of one are judged together
        bad=bad,
        workers=resolved_workers(loader, size=input.short or input.long, world_size=world),
        ranks=(distributed.rank(), world),
    )
    counts = torch.zeros(len(source.classes), len(source.classes), dtype=torch.int64, device=device)
    begun, seen = time.monotonic(), 0
    with Progress("evaluating", len(source), unit="image") as progress:
        for batch in batches:
            found = segment(model, batch.images[0], input=input, device=device, dtype=dtype, views=views)
            counts += confusion(found, batch.targets[0].to(device), len(source.classes))
            seen += 1
            progress.update(min(seen * world, len(source)))
    rate = seen * world / max(time.monotonic() - begun, 1e-9)
    distributed.sum_over_ranks([counts])
    counts = counts.cpu()
    return Evaluation(segmentation_figures(counts, source.classes), counts, rate)


def segment(
    model: EncoderDecoder,
    image: Tensor,
    *,
    input: SegmentationInputConfig,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    views: TTA = NO_TTA,
    megabytes: int = MEGABYTES,
) -> Tensor:
    """The class of each pixel of a picture, uint8 (3, H, W): uint8 (H, W), on the device.

    views: how often it is looked at. megabytes: for logits; a large picture is judged in parts within it, whatever its
    size (`heads.windows`).
    """
    height, width = image.shape[1:]
    seen = []
    for scale in views.scales:
        resized = resized_image(image, fitted_size(height, width, input, scale))
        seen += [View(resized, mirrored) for mirrored in ((False, True) if views.flip else (False,))]

    def prepared(windows: Tensor) -> Tensor:
        return prepare(windows.to(device, non_blocking=True), InputConfig(mean=input.mean, std=input.std))

    windows = SlidingWindow(input.window, input.stride, batch=1 if device.type == "cpu" else _AT_A_TIME)
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        return segment_tta(model, seen, (height, width), windows=windows, prepare=prepared, megabytes=megabytes)
