"""Image classification: soft targets and their loss, evaluation by sums.

B batch, C channels, H W space, K classes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from convnext.core import distributed
from convnext.core.seeding import mix_seed
from convnext.data.classification.batch import ClassificationBatch, load_train_batch
from convnext.data.classification.config import AugmentConfig
from convnext.data.classification.dataset import ClassificationDataset
from convnext.data.config import InputConfig, LoaderConfig, MixConfig
from convnext.data.loader import BadImages, resolved_workers, train_batches
from convnext.data.mix import erase, mix, prepare
from convnext.tasks.classification.evaluation import evaluate


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of logits (B, K) against soft targets (B, K), in float32 whatever the logits' type."""
    return -(targets.float() * logits.float().log_softmax(dim=1)).sum(dim=1).mean()


@dataclass(frozen=True)
class ClassificationTask:
    """The classification task of a training run (see `train.task.Task`)."""

    train: ClassificationDataset
    val: ClassificationDataset
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

    def batches(self, *, start_step: int, global_batch: int, micro_batch: int) -> Iterator[ClassificationBatch]:
        world = distributed.world_size()
        return train_batches(
            functools.partial(
                load_train_batch, source=self.train, augment=self.augment, input=self.input, seed=self.seed
            ),
            num_images=len(self.train),
            workers=resolved_workers(self.loader, size=self.input.size, world_size=world),
            global_batch=global_batch,
            micro_batch=micro_batch,
            seed=self.seed,
            start_step=start_step,
            ranks=(distributed.rank(), world),
            bad=self.bad,
        )

    def losses(self, model: nn.Module, batch: ClassificationBatch, *, step: int, micro: int) -> Mapping[str, Tensor]:
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
