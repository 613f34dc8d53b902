"""Images and their objects, resized, mirrored and cut together; and the batches that they become.

Shapes: H W an image's size, N its objects, B batch. An image is uint8 (3, H, W), a box (x0, y0, x1, y1) in pixels,
masks are bool (N, H, W). Batches are uint8, on the CPU, until `mix.prepare_padded`.

Chance is a pure function of the seed: the same image, settings and seed give the same pixels, in any process.
torchvision's kernels do the work. It is imported on first use, which takes seconds: import it before workers start.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from convnext.core.seeding import mix_seed
from convnext.data.batch import Loaded, Work, filled
from convnext.data.decode import BadImage
from convnext.data.detection.config import DetectionAugmentConfig, DetectionInputConfig
from convnext.data.detection.dataset import DetectionDataset
from convnext.data.resize import keep_ratio_size, resized_image
from convnext.ops.instances import Instances

_THIN = 0.01  # pixels: of less, nothing might be left in float32 when it is resized


class DetectionBatch(NamedTuple):
    """Images of one batch, before normalisation."""

    images: Tensor
    """uint8 (B, 3, H, W): the images in the upper left corner, zero on the right and below; H and W are multiples of
    the divisor."""
    sizes: Tensor
    """int64 (B, 2): height and width of each image in it."""
    originals: Tensor
    """int64 (B, 2): height and width of each as it was read."""
    instances: list[Instances]
    """The objects of each in training, masks of the image's own size without the zeros; in evaluation none: []."""
    indices: Tensor
    """int64 (B,): which images of the dataset these are."""


class _Example(NamedTuple):
    image: Tensor
    instances: Instances | None
    original: tuple[int, int]


def resized(image: Tensor, instances: Instances, size: tuple[int, int]) -> tuple[Tensor, Instances]:
    """Both at another size (height, width), masks nearest."""
    from torchvision.transforms.v2 import functional

    height, width = image.shape[1:]
    if (height, width) == size:
        return image, instances
    factor = torch.tensor([size[1] / width, size[0] / height] * 2)
    masks = instances.masks
    if masks is not None:  # as uint8: bool would be resized as float32, four times the memory
        masks = functional.resize_mask(masks.view(torch.uint8), list(size)).view(torch.bool)
    boxes, ignored = instances.boxes * factor, None if instances.ignored is None else instances.ignored * factor
    return resized_image(image, size), instances._replace(boxes=boxes, masks=masks, ignored=ignored)


def mirrored(image: Tensor, instances: Instances) -> tuple[Tensor, Instances]:
    """Both with left and right exchanged."""
    from torchvision.transforms.v2 import functional

    width, ignored = image.shape[2], instances.ignored
    masks = None if instances.masks is None else functional.horizontal_flip_mask(instances.masks)
    changed = instances._replace(
        boxes=_flipped(instances.boxes, width),
        masks=masks,
        ignored=None if ignored is None else _flipped(ignored, width),
    )
    return functional.horizontal_flip_image(image), changed


def _flipped(boxes: Tensor, width: int) -> Tensor:
    x0, y0, x1, y1 = boxes.unbind(1)
    return torch.stack([width - x1, y0, width - x0, y1], dim=1)


def cropped(
    image: Tensor, instances: Instances, top: int, left: int, height: int, width: int
) -> tuple[Tensor, Instances]:
    """A part of both, within the image. Boxes are cut off at its border; objects without area then are dropped."""
    from torchvision.transforms.v2 import functional

    boxes, inside = _cut(instances.boxes, top, left, height, width)
    masks = instances.masks
    if masks is not None:
        masks = functional.crop_mask(masks[inside], top, left, height, width)
    image = functional.crop_image(image, top, left, height, width)
    outlined = None if instances.outlined is None else instances.outlined[inside]
    ignored = instances.ignored
    if ignored is not None:
        regions, within = _cut(ignored, top, left, height, width)
        ignored = regions[within]
    return image, Instances(boxes[inside], instances.labels[inside], masks, outlined, ignored)


def _cut(boxes: Tensor, top: int, left: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Boxes in pixels of a part of the image, cut off at its border; and which of them have an area there."""
    boxes = boxes - torch.tensor([left, top, left, top])
    boxes = torch.stack([boxes[:, i].clamp(0, (width, height)[i % 2]) for i in range(4)], dim=1)
    return boxes, (boxes[:, 2:] - boxes[:, :2] > _THIN).all(dim=1)


def augment_image(
    image: Tensor, instances: Instances, augment: DetectionAugmentConfig, seed: int
) -> tuple[Tensor, Instances]:
    """One augmented view of an image and its objects; neither is changed. Objects that are cut away are left out.

    In this order: mirror image; with probability `augment.crop` a random part (the shorter side to one of
    `crop_shorts`, each side of the part drawn from `crop_sides`, or as long as the image where that is less); the
    shorter side to one of `shorts`. Source: mmdetection's `AutoAugment` of these two policies and `RandomCrop` of type
    "absolute_range", in the configurations of Swin and ConvNeXt (which have them from DETR).
    """
    chance = random.Random(seed)
    if chance.random() < augment.flip:
        image, instances = mirrored(image, instances)
    if chance.random() < augment.crop:
        image, instances = _scaled(image, instances, chance.choice(augment.crop_shorts), augment.long)
        height, width = (_side(length, augment.crop_sides, chance) for length in image.shape[1:])
        top, left = chance.randint(0, image.shape[1] - height), chance.randint(0, image.shape[2] - width)
        image, instances = cropped(image, instances, top, left, height, width)
    image, instances = _scaled(image, instances, chance.choice(augment.shorts), augment.long)
    masks = None if instances.masks is None else instances.masks.contiguous()
    return image.contiguous(), instances._replace(masks=masks)


def resize_for_evaluation(image: Tensor, config: DetectionInputConfig) -> Tensor:
    """An image as evaluation sees it: uint8 (3, H, W), at the size that `config` asks for."""
    none = Instances(torch.zeros((0, 4)), torch.zeros(0, dtype=torch.int64))
    return _scaled(image, none, config.short, config.long)[0].contiguous()


def load_train_batch(
    work: Work, *, dataset: DetectionDataset, augment: DetectionAugmentConfig, config: DetectionInputConfig, seed: int
) -> Loaded[DetectionBatch]:
    """Augmented images; image i of epoch e with seed mix_seed(seed, e, i). Other images take the places of those that
    cannot be read, as in `classification.batch.load_train_batch`."""
    failures: list[tuple[str, str]] = []

    def view(index: int) -> _Example | None:
        try:
            image, instances = dataset.read(index), dataset.instances(index)
        except BadImage as error:
            failures.append((error.name, error.reason))
            return None
        seen = augment_image(image, instances, augment, mix_seed(seed, work.epoch, index))
        return _Example(*seen, (image.shape[1], image.shape[2]))

    used, views = filled(work.indices.tolist(), len(dataset), view)
    return Loaded(_padded(views, used, config.divisor), len(used), failures)


def load_eval_batch(
    work: Work, *, dataset: DetectionDataset, config: DetectionInputConfig | None
) -> Loaded[DetectionBatch]:
    """Images as evaluation sees them, or without `config` as they were read; those that cannot be read are left
    out."""
    failures: list[tuple[str, str]] = []
    views: dict[int, _Example] = {}
    for index in work.indices.tolist():
        try:
            image = dataset.read(index)
        except BadImage as error:
            failures.append((error.name, error.reason))
        else:
            seen = resize_for_evaluation(image, config) if config else image
            views[index] = _Example(seen, None, (image.shape[1], image.shape[2]))
    divisor = config.divisor if config else 1
    return Loaded(_padded(list(views.values()), list(views), divisor), len(views), failures)


def image_batch(images: Sequence[Tensor], config: DetectionInputConfig | None) -> DetectionBatch:
    """Images uint8 (3, H, W) of any sizes as one batch for evaluation, or without `config` as they are."""
    sizes = [(image.shape[1], image.shape[2]) for image in images]
    seen = [resize_for_evaluation(image, config) for image in images] if config else images
    examples = [_Example(image, None, size) for image, size in zip(seen, sizes, strict=True)]
    return _padded(examples, list(range(len(examples))), config.divisor if config else 1)


def _scaled(image: Tensor, instances: Instances, short: int, long: int) -> tuple[Tensor, Instances]:
    return resized(image, instances, keep_ratio_size(image.shape[1], image.shape[2], short, long))


def _side(length: int, sides: tuple[int, int], chance: random.Random) -> int:
    return chance.randint(min(length, sides[0]), min(length, sides[1]))


def _padded(examples: list[_Example], indices: list[int], divisor: int) -> DetectionBatch:
    """Images of any size, stacked in the upper left corner of the smallest multiple of `divisor` that holds all."""
    sizes = torch.tensor([example.image.shape[1:] for example in examples], dtype=torch.int64).reshape(-1, 2)
    height, width = (-(-side // divisor) * divisor for side in (sizes.amax(dim=0).tolist() if examples else (1, 1)))
    images = torch.zeros((len(examples), 3, height, width), dtype=torch.uint8)
    for place, example in zip(images, examples, strict=True):
        place[:, : example.image.shape[1], : example.image.shape[2]] = example.image
    return DetectionBatch(
        images=images,
        sizes=sizes,
        originals=torch.tensor([example.original for example in examples], dtype=torch.int64).reshape(-1, 2),
        instances=[example.instances for example in examples if example.instances is not None],
        indices=torch.tensor(indices, dtype=torch.int64),
    )
