"""Semantic segmentation: the loss of a class for every pixel, evaluation in mIoU.

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
from convnext.data.loader import BadImages, resolved_workers, train_batches
from convnext.data.mix import prepare_padded
from convnext.data.segmentation.config import SegmentationAugmentConfig, SegmentationInputConfig
from convnext.data.segmentation.label_maps import LabelMapDataset
from convnext.data.segmentation.transforms import SegmentationBatch, load_train_batch
from convnext.models.segmentation.encoder_decoder import EncoderDecoder
from convnext.tasks.segmentation.evaluation import evaluate, flat


@dataclass(frozen=True)
class SegmentationTask:
    """The segmentation task of a training run (see `train.task.Task`)."""

    train: LabelMapDataset
    val: LabelMapDataset
    input: SegmentationInputConfig
    augment: SegmentationAugmentConfig
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

    def batches(self, *, start_step: int, global_batch: int, micro_batch: int) -> Iterator[SegmentationBatch]:
        load = partial(load_train_batch, source=self.train, augment=self.augment, config=self.input, seed=self.seed)
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

    def losses(self, model: nn.Module, batch: SegmentationBatch, *, step: int, micro: int) -> Mapping[str, Tensor]:
        """The head's loss and the auxiliary one's; nothing is drawn here but dropout's channels."""
        images = prepare_padded(
            batch.images.to(self.device, non_blocking=True), batch.sizes, mean=self.input.mean, std=self.input.std
        )
        return model(images, batch.targets.to(self.device, non_blocking=True).long(), self.weights)

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        assert isinstance(model, EncoderDecoder)
        found = evaluate(model, self.val, input=self.input, loader=self.loader, device=self.device, bad=self.bad)
        return flat(found.figures)
