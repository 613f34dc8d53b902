"""Image classification as the training loop sees it: soft targets and their loss.

B batch, C channels, H W space, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from convnext.core import distributed
from convnext.core.seeding import mix_seed
from convnext.data.batch import Loaded, Work
from convnext.data.classification.batch import ClassificationBatch, load_train_batch
from convnext.data.classification.config import AugmentConfig
from convnext.data.classification.dataset import ClassificationDataset, images_of_each, several_labels
from convnext.data.config import InputConfig, MixConfig
from convnext.data.loader import Sampling
from convnext.data.mix import erase, mix, mix_soft, prepare, smoothed_labels
from convnext.metrics.multilabel import MultiLabelFigures
from convnext.ops.losses import soft_binary_cross_entropy, soft_cross_entropy
from convnext.tasks.base_task import BaseTask
from convnext.tasks.classification.evaluate import evaluate


@dataclass(frozen=True, kw_only=True)
class ClassificationTask(BaseTask[ClassificationDataset, ClassificationBatch]):
    """The classification task of a training run."""

    input: InputConfig
    augment: AugmentConfig
    mixing: MixConfig
    eval_batch: int
    balance: bool = False
    """Whether each class comes equally often."""

    @property
    def goal(self) -> str:
        return "mAP" if self.several else "top1"

    @property
    def several(self) -> bool:
        """Whether an image can have several labels."""
        return several_labels(self.train)

    @property
    def image_size(self) -> int:
        return self.input.size

    def sampling(self) -> Sampling:
        return Sampling(classes=self.train.targets) if self.balance else Sampling()

    def load(self) -> Callable[[Work], Loaded[ClassificationBatch]]:
        return partial(load_train_batch, dataset=self.train, augment=self.augment, input=self.input, seed=self.seed)

    def losses(self, model: nn.Module, batch: ClassificationBatch, *, step: int, micro: int) -> Mapping[str, Tensor]:
        """Soft cross-entropy (binary, of several labels) after erasing, mixing and smoothing: a pure function of (seed,
        step, micro, rank)."""
        generator = torch.Generator().manual_seed(mix_seed(self.seed, step, micro, distributed.rank()))
        images = prepare(batch.images.to(self.device, non_blocking=True), self.input)
        targets = batch.targets.to(self.device, non_blocking=True)
        images = erase(images, self.mixing.erase, generator)
        if self.several:
            often = images_of_each(self.train) / len(self.train)
            soft = smoothed_labels(targets > 0, often, self.mixing.smoothing)
            images, soft = mix_soft(images, soft, config=self.mixing, generator=generator)
            return {"class": soft_binary_cross_entropy(model(images), soft)}
        images, soft = mix(
            images, targets, num_classes=len(self.train.classes), config=self.mixing, generator=generator
        )
        return {"class": soft_cross_entropy(model(images), soft)}

    def evaluate(self, model: nn.Module) -> Mapping[str, float | None]:
        result = evaluate(
            model,
            self.val,
            input=self.input,
            loader=self.loader,
            batch_size=self.eval_batch,
            device=self.device,
            bad=self.bad,
        ).result
        figures: dict[str, float | None] = {"loss": result.loss}
        if isinstance(result, MultiLabelFigures):
            figures |= {"mAP": result.mean_ap, "F1": result.f1}
        else:
            figures |= {"top1": result.top1, "top5": result.top5}
        return figures | ({"invalid": float(result.invalid)} if result.invalid else {})
