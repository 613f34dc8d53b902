"""Image classification: soft targets and their loss, evaluation by sums.

B batch, C channels, H W space, K classes.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from convnext.core import distributed
from convnext.core.logs import Progress
from convnext.core.seeding import mix_seed
from convnext.data.batch import Batch, load_eval, load_train
from convnext.data.config import AugmentConfig, InputConfig, LoaderConfig, MixConfig
from convnext.data.loader import BadImages, eval_batches, resolved_workers, train_batches
from convnext.data.mix import erase, mix, prepare
from convnext.data.source import Source
from convnext.metrics.accuracy import ClassificationCounts, ClassificationResult


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of logits (B, K) against soft targets (B, K), in float32 whatever the logits' type."""
    return -(targets.float() * logits.float().log_softmax(dim=1)).sum(dim=1).mean()


@dataclass(frozen=True)
class Classify:
    """The classification task of a training run (see `train.task.Task`)."""

    train: Source
    val: Source
    input: InputConfig
    augment: AugmentConfig
    mixing: MixConfig
    loader: LoaderConfig
    device: torch.device
    seed: int
    eval_batch: int
    bad: BadImages
    goal: str = field(default="top1", init=False)

    @property
    def num_images(self) -> int:
        return len(self.train)

    def batches(self, *, start_step: int, global_batch: int, micro_batch: int) -> Iterator[Batch]:
        world = distributed.world_size()
        return train_batches(
            functools.partial(load_train, source=self.train, augment=self.augment, input=self.input, seed=self.seed),
            num_images=len(self.train),
            workers=resolved_workers(self.loader, size=self.input.size, world_size=world),
            global_batch=global_batch,
            micro_batch=micro_batch,
            seed=self.seed,
            start_step=start_step,
            ranks=(distributed.rank(), world),
            bad=self.bad,
        )

    def losses(self, model: nn.Module, batch: Batch, *, step: int, micro: int) -> Mapping[str, Tensor]:
        """Soft cross-entropy after erasing, mixing and smoothing: a pure function of (seed, step, micro, rank)."""
        generator = torch.Generator().manual_seed(mix_seed(self.seed, step, micro, distributed.rank()))
        images = prepare(batch.images.to(self.device, non_blocking=True), self.input)
        targets = batch.targets.to(self.device, non_blocking=True)
        images = erase(images, self.mixing.erase, generator)
        images, soft = mix(
            images, targets, num_classes=len(self.train.classes), config=self.mixing, generator=generator
        )
        return {"class": soft_cross_entropy(model(images), soft)}

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        result = evaluate(
            model,
            self.val,
            input=self.input,
            loader=self.loader,
            batch_size=self.eval_batch,
            device=self.device,
            bad=self.bad,
        ).result
        return {"loss": result.loss, "top1": result.top1, "top5": result.top5}


@dataclass(frozen=True)
class Wrong:
    """An image that was taken for another class: its index in the source, the wrong class and the confidence in it."""

    index: int
    prediction: int
    confidence: float


@dataclass(frozen=True)
class Evaluation:
    """The figures of a model on a source, its most confident mistakes, and the speed they came at."""

    result: ClassificationResult
    mistakes: list[Wrong]
    images_per_second: float


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    source: Source,
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
        functools.partial(load_eval, source=source, input=input),
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


def _wrong(logits: Tensor, batch: Batch) -> list[Wrong]:
    confidence, prediction = logits.softmax(dim=1).max(dim=1)
    return [
        Wrong(int(batch.indices[i]), int(prediction[i]), float(confidence[i]))
        for i in (prediction != batch.targets).nonzero().flatten().tolist()
    ]


def _most_confident(wrong: list[Wrong], count: int) -> list[Wrong]:
    return sorted(wrong, key=lambda entry: -entry.confidence)[:count]
