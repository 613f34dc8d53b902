"""Semantic segmentation as the training loop sees it: losses of a class for every pixel. B batch, K classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from convnext.data.batch import Loaded, Work
from convnext.data.mix import prepare_padded
from convnext.data.segmentation.config import SegmentationAugmentConfig, SegmentationInputConfig
from convnext.data.segmentation.dataset import SegmentationDataset
from convnext.data.segmentation.transforms import SegmentationBatch, load_train_batch
from convnext.models.segmentation.encoder_decoder import EncoderDecoder
from convnext.tasks.base_task import BaseTask
from convnext.tasks.segmentation.evaluate import evaluate, log_figures


@dataclass(frozen=True, kw_only=True)
class SegmentationTask(BaseTask[SegmentationDataset, SegmentationBatch]):
    """The segmentation task of a training run."""

    input: SegmentationInputConfig
    augment: SegmentationAugmentConfig
    weights: Tensor | None = None
    """float32 (K,), on the device: of each class's pixels in the losses; None: all alike."""

    @property
    def goal(self) -> str:
        return "mIoU"

    @property
    def image_size(self) -> int:
        return self.augment.crop

    def load(self) -> Callable[[Work], Loaded[SegmentationBatch]]:
        return partial(load_train_batch, dataset=self.train, augment=self.augment, config=self.input, seed=self.seed)

    def losses(self, model: nn.Module, batch: SegmentationBatch, *, step: int, micro: int) -> Mapping[str, Tensor]:
        """The head's loss and the auxiliary one's; nothing is drawn here but dropout's channels."""
        images = prepare_padded(
            batch.images.to(self.device, non_blocking=True), batch.sizes, mean=self.input.mean, std=self.input.std
        )
        return model(images, batch.targets.to(self.device, non_blocking=True).long(), self.weights)

    def evaluate(self, model: nn.Module) -> Mapping[str, float | None]:
        assert isinstance(model, EncoderDecoder)
        found = evaluate(model, self.val, input=self.input, loader=self.loader, device=self.device, bad=self.bad)
        return log_figures(found)
