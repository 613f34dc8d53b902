"""Images with a class for every pixel, resized, cut and mirrored together; and the batches that they become.

Shapes: H W an image's size, S the side of a training square, B batch. An image is uint8 (3, H, W), its labels uint8
(H, W). Batches are uint8, on the CPU, until `mix.prepare_padded`.

Chance is a pure function of the seed: the same image, settings and seed give the same pixels, in any process.
torchvision's kernels do the work. It is imported on first use, which takes seconds: import it before workers start.
"""

from __future__ import annotations

import random
from typing import NamedTuple

import torch
from torch import Tensor

from convnext.core.seeding import mix_seed
from convnext.data.batch import Loaded, Work, filled
from convnext.data.decode import BadImage
from convnext.data.resize import keep_ratio_size, resized_image
from convnext.data.segmentation.config import SegmentationAugmentConfig, SegmentationInputConfig
from convnext.data.segmentation.dataset import SegmentationDataset
from convnext.ops.losses import IGNORE_INDEX

_DRAWS = 10  # of a part, until no class fills too much of it
_BRIGHTER, _CONTRAST, _SATURATION, _HUE = 32.0, (0.5, 1.5), (0.5, 1.5), 18  # the last: in steps of 2 degrees


class SegmentationBatch(NamedTuple):
    """Images of one batch with their labels, before normalisation."""

    images: Tensor
    """uint8 (B, 3, S, S): the images in the upper left corner, zero on the right and below."""
    sizes: Tensor
    """int64 (B, 2): height and width of each image in it."""
    targets: Tensor
    """uint8 (B, S, S): the class of each pixel, IGNORE_INDEX where it has none and beyond the images."""
    indices: Tensor
    """int64 (B,): which images of the dataset these are."""


def fitted_size(height: int, width: int, config: SegmentationInputConfig, scale: float = 1.0) -> tuple[int, int]:
    """Height and width at which an image is evaluated, times `scale`, in its proportions."""
    if config.short == 0:
        return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)
    return keep_ratio_size(height, width, int(config.short * scale), int(config.long * scale))


def augment_image(
    image: Tensor, labels: Tensor, augment: SegmentationAugmentConfig, config: SegmentationInputConfig, seed: int
) -> tuple[Tensor, Tensor]:
    """One augmented part of an image and its labels, at most `augment.crop` high and wide; neither is changed.

    In this order: resized as for evaluation times a number drawn from `augment.scale`; a part cut out; mirrored;
    colours distorted. Source: mmsegmentation's RandomResize, RandomCrop, RandomFlip and PhotoMetricDistortion, in the
    configurations of ConvNeXt.
    """
    chance = random.Random(seed)
    height, width = fitted_size(labels.shape[0], labels.shape[1], config, chance.uniform(*augment.scale))
    image, labels = resized_image(image, (height, width)), resized_labels(labels, (height, width))
    top, left = _part(labels, augment, chance)
    rows, columns = slice(top, top + augment.crop), slice(left, left + augment.crop)
    image, labels = image[:, rows, columns], labels[rows, columns]
    if chance.random() < augment.flip:
        image, labels = image.flip(2), labels.flip(1)
    return (distorted(image, chance) if augment.distort else image), labels


def resized_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels (H, W) at another size (height, width): of the nearest pixel towards the upper left, as mmcv takes it."""
    if tuple(labels.shape) == size:
        return labels
    rows, columns = (torch.arange(new) * old // new for new, old in zip(size, labels.shape, strict=True))
    return labels[rows][:, columns]


def _part(labels: Tensor, augment: SegmentationAugmentConfig, chance: random.Random) -> tuple[int, int]:
    """Top and left of a part, drawn again while one class fills too much of it."""
    for last in (*[False] * _DRAWS, True):
        top, left = (chance.randint(0, max(side - augment.crop, 0)) for side in labels.shape)
        part = labels[top : top + augment.crop, left : left + augment.crop]
        if last or augment.most == 1 or _mixed(part, augment.most):
            return top, left
    raise AssertionError


def _mixed(labels: Tensor, most: float) -> bool:
    """Whether there are two classes or more, and none fills more than its share of the pixels that have one."""
    counts = torch.bincount(labels.flatten(), minlength=IGNORE_INDEX + 1)[:IGNORE_INDEX]
    return int((counts > 0).sum()) > 1 and int(counts.max()) < most * int(counts.sum())


def distorted(image: Tensor, chance: random.Random) -> Tensor:
    """An image uint8 (3, H, W) in other light: each of brightness, contrast, saturation and hue changes with
    probability one half, contrast first or last (SSD's distortion, arXiv 1512.02325, as mmsegmentation has it)."""
    from torchvision.transforms.v2 import functional

    first = chance.random() < 0.5  # contrast before the colours
    values = image.float()
    if chance.random() < 0.5:
        values = (values + chance.uniform(-_BRIGHTER, _BRIGHTER)).clamp_(0, 255)
    contrast = chance.uniform(*_CONTRAST) if chance.random() < 0.5 else 1.0
    if first:
        values = (values * contrast).clamp_(0, 255)
    if chance.random() < 0.5:
        values = _saturated(values, chance.uniform(*_SATURATION))
    if chance.random() < 0.5:
        values = functional.adjust_hue_image(values / 255, chance.randrange(-_HUE, _HUE) / 180) * 255
    if not first:
        values = (values * contrast).clamp_(0, 255)
    return values.round_().to(torch.uint8)


def _saturated(values: Tensor, factor: float) -> Tensor:
    """Saturation times `factor`, up to 1, at the same hue and value: each channel's distance from the greatest one is
    what saturation scales (HSV)."""
    greatest = values.amax(dim=0)
    spread = greatest - values.amin(dim=0)
    scale = torch.clamp(greatest / spread.clamp_min(1e-6), max=factor)  # a saturation of 1 has a channel of 0
    return greatest - (greatest - values) * scale


def load_train_batch(
    work: Work,
    *,
    dataset: SegmentationDataset,
    augment: SegmentationAugmentConfig,
    config: SegmentationInputConfig,
    seed: int,
) -> Loaded[SegmentationBatch]:
    """Augmented parts; image i of epoch e with seed mix_seed(seed, e, i). Images that can be read take the places
    of those that cannot, as in `classification.batch.load_train_batch`."""
    failures: list[tuple[str, str]] = []

    def view(index: int) -> tuple[Tensor, Tensor] | None:
        pair = _read(dataset, index, failures)
        return None if pair is None else augment_image(*pair, augment, config, mix_seed(seed, work.epoch, index))

    used, views = filled(work.indices.tolist(), len(dataset), view)
    return Loaded(_padded(views, used, augment.crop, augment.crop), len(used), failures)


def load_eval_batch(work: Work, *, dataset: SegmentationDataset) -> Loaded[SegmentationBatch]:
    """One image as it was read, with its labels; none where it cannot be read."""
    failures: list[tuple[str, str]] = []
    (index,) = work.indices.tolist()
    pair = _read(dataset, index, failures)
    height, width = (1, 1) if pair is None else pair[1].shape
    found = [] if pair is None else [pair]
    return Loaded(_padded(found, [index] * len(found), height, width), len(found), failures)


def _read(dataset: SegmentationDataset, index: int, failures: list[tuple[str, str]]) -> tuple[Tensor, Tensor] | None:
    try:
        image, labels = dataset.read(index), dataset.labels(index)
        if image.shape[1:] != labels.shape:
            raise BadImage(dataset.name(index), "its label map has another size")
    except BadImage as error:
        failures.append((error.name, error.reason))
        return None
    return image, labels


def _padded(pairs: list[tuple[Tensor, Tensor]], indices: list[int], height: int, width: int) -> SegmentationBatch:
    """Images and labels of at most that size, stacked in the upper left corner."""
    images = torch.zeros((len(pairs), 3, height, width), dtype=torch.uint8)
    targets = torch.full((len(pairs), height, width), IGNORE_INDEX, dtype=torch.uint8)
    for place, target, (image, labels) in zip(images, targets, pairs, strict=True):
        place[:, : labels.shape[0], : labels.shape[1]] = image
        target[: labels.shape[0], : labels.shape[1]] = labels
    sizes = torch.tensor([labels.shape for _, labels in pairs], dtype=torch.int64).reshape(-1, 2)
    return SegmentationBatch(images, sizes, targets, torch.tensor(indices, dtype=torch.int64))
