"""Masked pre-training as the training loop sees it. B batch, h w cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from convnext.data.batch import Loaded, Work
from convnext.data.classification.config import AugmentConfig
from convnext.data.classification.dataset import ClassificationDataset
from convnext.data.config import InputConfig
from convnext.data.mix import prepare
from convnext.data.pretraining.batch import MaskedBatch, Masking, load_masked_train_batch
from convnext.tasks.base_task import BaseTask
from convnext.tasks.pretraining.evaluate import evaluate


@dataclass(frozen=True, kw_only=True)
class PretrainingTask(BaseTask[ClassificationDataset, MaskedBatch]):
    """The pre-training task of a training run."""

    input: InputConfig
    augment: AugmentConfig
    masking: Masking
    eval_batch: int

    @property
    def goal(self) -> str:
        return "explained"

    @property
    def image_size(self) -> int:
        return self.input.size

    def load(self) -> Callable[[Work], Loaded[MaskedBatch]]:
        return partial(
            load_masked_train_batch,
            dataset=self.train,
            augment=self.augment,
            input=self.input,
            masking=self.masking,
        )

    def losses(self, model: nn.Module, batch: MaskedBatch, *, step: int, micro: int) -> Mapping[str, Tensor]:
        """The mean squared error of masked cells: every image has as many."""
        images = prepare(batch.images.to(self.device, non_blocking=True), self.input)
        mask = batch.mask.to(self.device, non_blocking=True)
        return {"pixels": model(images, mask).losses.sum() / mask.sum()}

    def evaluate(self, model: nn.Module) -> Mapping[str, float | None]:
        result = evaluate(
            model,
            self.val,
            input=self.input,
            masking=self.masking,
            loader=self.loader,
            batch_size=self.eval_batch,
            device=self.device,
            bad=self.bad,
        )
        invalid = {"invalid": result.invalid} if result.invalid else {}
        return {"loss": result.loss, "explained": result.explained, **invalid}
