"""One batch for masked pre-training: augmented images, and which of their cells are masked.

Shapes: B batch, S the model's size, h w cells. A mask is a pure function of (seed, epoch, image).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from convnext.core.seeding import mix_seed
from convnext.data.batch import Loaded, Work
from convnext.data.classification.batch import load_eval_batch, load_train_batch
from convnext.data.classification.config import AugmentConfig
from convnext.data.classification.dataset import ClassificationDataset
from convnext.data.config import InputConfig

_MASKS = 7  # sets the chance of masks apart from that of augmentation


class Masking(NamedTuple):
    """How images are masked."""

    cell: int
    """Side of a cell, in pixels."""
    ratio: float
    """Share of the cells that are masked."""
    seed: int


class MaskedBatch(NamedTuple):
    """Images as the model takes them, before normalisation."""

    images: Tensor
    """uint8 (B, C, S, S)."""
    mask: Tensor
    """bool (B, h, w), True where masked."""
    indices: Tensor
    """int64 (B,): which images of the data set these are."""


def mask_of(index: int, *, epoch: int, size: int, masking: Masking) -> Tensor:
    """The mask of an image in an epoch, bool (h, w): int(cells * (1 - ratio)) are visible, at least one, and at least
    one is masked (official models/fcmae.py, gen_random_mask)."""
    side = size // masking.cell
    cells = side * side
    visible = min(max(int(cells * (1 - masking.ratio)), 1), cells - 1)
    chance = torch.Generator().manual_seed(mix_seed(masking.seed, epoch, index, _MASKS))
    mask = torch.ones(cells, dtype=torch.bool)
    mask[torch.rand(cells, generator=chance).argsort()[:visible]] = False
    return mask.view(side, side)


def load_masked_train_batch(
    work: Work, *, dataset: ClassificationDataset, augment: AugmentConfig, input: InputConfig, masking: Masking
) -> Loaded[MaskedBatch]:
    """Augmented and masked images; image i of epoch e with seeds of (seed, e, i). Unreadable ones are replaced as in
    `classification.batch.load_train_batch`."""
    loaded = load_train_batch(work, dataset=dataset, augment=augment, input=input, seed=masking.seed)
    images, _, indices = loaded.batch
    return loaded._replace(batch=_masked(images, indices, work.epoch, input, masking))  # type: ignore[return-value]


def load_masked_eval_batch(
    work: Work, *, dataset: ClassificationDataset, input: InputConfig, masking: Masking
) -> Loaded[MaskedBatch]:
    """Images as evaluation sees them, masked as in epoch 0; those that cannot be read are left out."""
    loaded = load_eval_batch(work, dataset=dataset, input=input)
    images, _, indices = loaded.batch
    return loaded._replace(batch=_masked(images, indices, 0, input, masking))  # type: ignore[return-value]


def _masked(images: Tensor, indices: Tensor, epoch: int, input: InputConfig, masking: Masking) -> MaskedBatch:
    side = input.size // masking.cell
    masks = [mask_of(index, epoch=epoch, size=input.size, masking=masking) for index in indices.tolist()]
    return MaskedBatch(images, torch.stack(masks) if masks else torch.zeros(0, side, side, dtype=torch.bool), indices)
