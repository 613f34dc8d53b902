"""Object detection as the training loop sees it: losses of a detector. B batch, H W space."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from convnext.data.batch import Loaded, Work
from convnext.data.detection.config import DetectionAugmentConfig, DetectionInputConfig
from convnext.data.detection.dataset import DetectionDataset
from convnext.data.detection.transforms import DetectionBatch, load_train_batch
from convnext.data.loader import Sampling
from convnext.models.detection.rcnn import RCNN
from convnext.tasks.base_task import BaseTask
from convnext.tasks.detection.evaluate import evaluate, log_figures, prepared, size_pairs


@dataclass(frozen=True, kw_only=True)
class DetectionTask(BaseTask[DetectionDataset, DetectionBatch]):
    """The detection task of a training run."""

    input: DetectionInputConfig
    augment: DetectionAugmentConfig
    eval_batch: int

    @property
    def goal(self) -> str:
        return "box_AP"

    @property
    def image_size(self) -> int:
        return self.input.short

    def sampling(self) -> Sampling:
        return Sampling(aspects=self.train.sizes[:, 1] / self.train.sizes[:, 0])

    def load(self) -> Callable[[Work], Loaded[DetectionBatch]]:
        return partial(load_train_batch, dataset=self.train, augment=self.augment, config=self.input, seed=self.seed)

    def losses(self, model: nn.Module, batch: DetectionBatch, *, step: int, micro: int) -> Mapping[str, Tensor]:
        """The detector's losses. Which regions they are taken over is drawn from torch's global generator, which a
        checkpoint holds."""
        images = prepared(batch, self.input, self.device)
        targets = [instances.to(self.device) for instances in batch.instances]
        return model(images, size_pairs(batch.sizes), targets=targets)

    def evaluate(self, model: nn.Module) -> Mapping[str, float | None]:
        assert isinstance(model, RCNN)
        evaluation = evaluate(
            model,
            self.val,
            input=self.input,
            loader=self.loader,
            batch_size=self.eval_batch,
            device=self.device,
            bad=self.bad,
        )
        return log_figures(evaluation)
