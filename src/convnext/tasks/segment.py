"""Semantic segmentation: the loss of a class for every pixel, evaluation in mIoU.

B batch, H W space, K classes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from convnext.core import distributed
from convnext.core.logs import Progress
from convnext.data.config import InputConfig, LoaderConfig, PixelAugmentConfig, PixelConfig
from convnext.data.crops import PixelBatch, fitted_size, load_eval_pixels, load_train_pixels
from convnext.data.dense import resized_image
from convnext.data.loader import BadImages, eval_batches, resolved_workers, train_batches
from convnext.data.mix import prepare, prepare_padded
from convnext.data.pixels import PixelSource
from convnext.heads.config import ONCE, Views
from convnext.heads.encoder_decoder import EncoderDecoder
from convnext.heads.windows import MEGABYTES, View, Windows, segment_views
from convnext.metrics.miou import PixelFigures, confusion, pixel_figures

_AT_A_TIME = 4  # windows, on a GPU


@dataclass(frozen=True)
class Segment:
    """The segmentation task of a training run (see `train.task.Task`)."""

    train: PixelSource
    val: PixelSource
    input: PixelConfig
    augment: PixelAugmentConfig
    loader: LoaderConfig
    device: torch.device
    seed: int
    bad: BadImages
    weights: Tensor | None = None
    """float32 (K,), on the device: of each class's pixels in the losses; None: all alike."""
    goal: str = field(default="mIoU", init=False)

    @property
    def num_images(self) -> int:
        return len(self.train)

    def batches(self, *, start_step: int, global_batch: int, micro_batch: int) -> Iterator[PixelBatch]:
        load = partial(load_train_pixels, source=self.train, augment=self.augment, config=self.input, seed=self.seed)
        return train_batches(
            load,
            num_images=len(self.train),
            global_batch=global_batch,
            micro_batch=micro_batch,
            seed=self.seed,
            start_step=start_step,
            bad=self.bad,
            workers=resolved_workers(self.loader, size=self.augment.crop, world_size=distributed.world_size()),
            ranks=(distributed.rank(), distributed.world_size()),
        )

    def losses(self, model: nn.Module, batch: PixelBatch, *, step: int, micro: int) -> Mapping[str, Tensor]:
        """The head's loss and the auxiliary one's; nothing is drawn here but dropout's channels."""
        images = prepare_padded(
            batch.images.to(self.device, non_blocking=True), batch.sizes, mean=self.input.mean, std=self.input.std
        )
        return model(images, batch.targets.to(self.device, non_blocking=True).long(), self.weights)

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        assert isinstance(model, EncoderDecoder)
        found = evaluate(model, self.val, input=self.input, loader=self.loader, device=self.device, bad=self.bad)
        return flat(found.figures)


@dataclass(frozen=True)
class Evaluation:
    """The figures of a segmenter on pictures, and the speed they came at."""

    figures: PixelFigures
    counts: Tensor
    """int64 (K, K), on the CPU: pixels of a class (row) that were taken for a class (column)."""
    images_per_second: float


def flat(figures: PixelFigures) -> dict[str, float]:
    """The figures that a log holds; 0 where undefined."""
    return {name: getattr(figures, name) or 0.0 for name in ("mIoU", "mAcc", "aAcc")}


@torch.inference_mode()
def evaluate(
    model: EncoderDecoder,
    source: PixelSource,
    *,
    input: PixelConfig,
    loader: LoaderConfig,
    device: torch.device,
    bad: BadImages,
    dtype: torch.dtype = torch.float32,
    views: Views = ONCE,
) -> Evaluation:
    """Every picture of `source` once, over all ranks, judged at its own size. Rates count pictures a second, reading
    included."""
    world = distributed.world_size()
    batches = eval_batches(
        partial(load_eval_pixels, source=source),
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
    return Evaluation(pixel_figures(counts, source.classes), counts, rate)


def segment(
    model: EncoderDecoder,
    image: Tensor,
    *,
    input: PixelConfig,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    views: Views = ONCE,
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

    windows = Windows(input.window, input.stride, batch=1 if device.type == "cpu" else _AT_A_TIME)
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        return segment_views(model, seen, (height, width), windows=windows, prepare=prepared, megabytes=megabytes)
