"""Image classification: soft targets and their loss, evaluation by sums.

B batch, C channels, H W space, K classes.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from convnext.core import distributed
from convnext.core.logs import Progress
from convnext.data.classification.batch import ClassificationBatch, load_eval_batch
from convnext.data.classification.dataset import ClassificationDataset
from convnext.data.config import InputConfig, LoaderConfig
from convnext.data.loader import BadImages, eval_batches, resolved_workers
from convnext.data.mix import prepare
from convnext.metrics.accuracy import ClassificationCounts, ClassificationFigures


@dataclass(frozen=True)
class Wrong:
    """An image that was taken for another class: its index in the source, the wrong class and the confidence in it."""

    index: int
    prediction: int
    confidence: float


@dataclass(frozen=True)
class Evaluation:
    """The figures of a model on a source, its most confident mistakes, and the speed they came at."""

    result: ClassificationFigures
    mistakes: list[Wrong]
    images_per_second: float


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    source: ClassificationDataset,
    *,
    input: InputConfig,
    loader: LoaderConfig,
    batch_size: int,
    device: torch.device,
    bad: BadImages,
    dtype: torch.dtype = torch.float32,
    mistakes: int = 0,
) -> Evaluation:
    """Every image of `source` once, over all ranks. Rates count images a second, reading included.

    `mistakes` asks for that many most confident mistakes (of this rank). Sums are of float32 logits.
    """
    counts = ClassificationCounts(len(source.classes), device=device)
    wrong: list[Wrong] = []
    world = distributed.world_size()
    batches = eval_batches(
        functools.partial(load_eval_batch, source=source, input=input),
        num_images=len(source),
        workers=resolved_workers(loader, size=input.size, world_size=world),
        batch_size=batch_size,
        ranks=(distributed.rank(), world),
        bad=bad,
    )
    begun, seen = time.monotonic(), 0
    with Progress("evaluating", len(source), unit="image") as progress:
        for batch in batches:
            images = prepare(batch.images.to(device, non_blocking=True), input)
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                logits = model(images).float()
            counts.update(logits, batch.targets.to(device))
            if mistakes:
                wrong = _most_confident(wrong + _wrong(logits.cpu(), batch), mistakes)
            seen += len(batch.images)
            progress.update(min(seen * world, len(source)))
    rate = seen * world / max(time.monotonic() - begun, 1e-9)
    distributed.sum_over_ranks(counts.tensors())
    return Evaluation(counts.result(), wrong, rate)


def _wrong(logits: Tensor, batch: ClassificationBatch) -> list[Wrong]:
    confidence, prediction = logits.softmax(dim=1).max(dim=1)
    return [
        Wrong(int(batch.indices[i]), int(prediction[i]), float(confidence[i]))
        for i in (prediction != batch.targets).nonzero().flatten().tolist()
    ]


def _most_confident(wrong: list[Wrong], count: int) -> list[Wrong]:
    return sorted(wrong, key=lambda entry: -entry.confidence)[:count]
