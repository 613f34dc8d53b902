"""Object detection: losses from a detector, evaluation in COCO's figures.

B batch, H W space, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from convnext.core import distributed
from convnext.data.config import LoaderConfig
from convnext.data.detection.coco import CocoDataset
from convnext.data.detection.config import DetectionAugmentConfig, DetectionInputConfig
from convnext.data.detection.transforms import DetectionBatch, load_train_batch
from convnext.data.loader import BadImages, train_batches
from convnext.models.detection.rcnn import RCNN
from convnext.tasks.detection.evaluation import _prepared, _workers, evaluate, flat, pairs


@dataclass(frozen=True)
class DetectionTask:
    """The detection task of a training run (see `train.task.Task`)."""

    train: CocoDataset
    val: CocoDataset
    input: DetectionInputConfig
    augment: DetectionAugmentConfig
    loader: LoaderConfig
    device: torch.device
    seed: int
    eval_batch: int
    bad: BadImages
    goal: str = field(default="box_AP", init=False)

    @property
    def num_images(self) -> int:
        return len(self.train)

    def batches(self, *, start_step: int, global_batch: int, micro_batch: int) -> Iterator[DetectionBatch]:
        load = partial(load_train_batch, source=self.train, augment=self.augment, config=self.input, seed=self.seed)
        return train_batches(
            load,
            num_images=len(self.train),
            global_batch=global_batch,
            micro_batch=micro_batch,
            seed=self.seed,
            start_step=start_step,
            bad=self.bad,
            workers=_workers(self.loader, self.input),
            ranks=(distributed.rank(), distributed.world_size()),
            aspects=self.train.sizes[:, 1] / self.train.sizes[:, 0],
        )

    def losses(self, model: nn.Module, batch: DetectionBatch, *, step: int, micro: int) -> Mapping[str, Tensor]:
        """The detector's losses. Which regions they are taken over is drawn from torch's global generator, which a
        checkpoint holds."""
        images = _prepared(batch, self.input, self.device)
        targets = [instances.to(self.device) for instances in batch.instances]
        return model(images, pairs(batch.sizes), targets=targets)

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        assert isinstance(model, RCNN)
        found = evaluate(
            model,
            self.val,
            input=self.input,
            loader=self.loader,
            batch_size=self.eval_batch,
            device=self.device,
            bad=self.bad,
        )
        return flat(found)
