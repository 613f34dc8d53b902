"""What training does to each image on its own, in a worker, before the model sees it.

Shapes: H W the image's size, S the model's; uint8 in and out. (`mix` goes on from here, on batches, on the device.)

Chance is a pure function of the seed: the same image, settings and seed give the same pixels, in any process.
"""

from __future__ import annotations

import math
import random

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from convnext.data.classification import randaugment
from convnext.data.classification.config import AugmentConfig
from convnext.data.config import InputConfig
from convnext.data.preprocess import crop_with_zeros, eval_transform, resize

_TRIES = 10


def train_transform(image: Tensor, config: AugmentConfig, input: InputConfig, seed: int) -> Tensor:
    """One augmented view: uint8 (3, H, W), any size, to uint8 (3, S, S), S = input.size. `image` is not changed.

    In this order: crop (`config.crop`), mirror image (probability `config.flip`), RandAugment; regions that come in
    from outside are black in a padded crop and of the mean colour in RandAugment, as in the recipes they come from.
    """
    chance = random.Random(seed)
    size = input.size
    if config.crop == "resized":
        height, width = image.shape[1:]
        top, left, rows, columns = random_region(height, width, scale=config.scale, ratio=config.ratio, chance=chance)
        image = resize(image[:, top : top + rows, left : left + columns], size, size, input.interpolation)
    else:
        image = eval_transform(image, input)
        if config.crop == "padded" and config.padding > 0:
            top, left = chance.randint(0, 2 * config.padding), chance.randint(0, 2 * config.padding)
            image = crop_with_zeros(image, top - config.padding, left - config.padding, size)
    if chance.random() < config.flip:
        image = image.flip(-1)
    if config.randaugment_ops > 0:
        image = _randaugmented(image, config, input, chance)
    return image.contiguous()


def random_region(
    height: int, width: int, *, scale: tuple[float, float], ratio: tuple[float, float], chance: random.Random
) -> tuple[int, int, int, int]:
    """(top, left, rows, columns) of a random part of an image, as in "Going deeper with convolutions" (2014).

    scale: range of its area, as a share of the image. ratio: range of its width by height, drawn log-uniformly. Where
    ten draws do not fit into the image: the centre, as large as the range of ratios allows.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(_TRIES):
        area = chance.uniform(*scale) * height * width
        aspect = math.exp(chance.uniform(low, high))
        rows, columns = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < rows <= height and 0 < columns <= width:
            return chance.randint(0, height - rows), chance.randint(0, width - columns), rows, columns
    aspect = min(max(width / height, ratio[0]), ratio[1])
    rows, columns = min(height, round(width / aspect)), min(width, round(height * aspect))
    rows, columns = max(rows, 1), max(columns, 1)
    return (height - rows) // 2, (width - columns) // 2, rows, columns


def _randaugmented(image: Tensor, config: AugmentConfig, input: InputConfig, chance: random.Random) -> Tensor:
    steps = randaugment.draw(
        ops=config.randaugment_ops,
        magnitude=config.randaugment_magnitude,
        std=config.randaugment_std,
        chance=chance,
    )
    if not steps:
        return image
    red, green, blue = (min(255, round(255 * value)) for value in input.mean)
    # Pillow keeps the three values of a pixel together; plane by plane is four times as fast as permuting (3, S, S)
    whole = Image.merge("RGB", [Image.fromarray(plane) for plane in image.contiguous().numpy()])
    for step in steps:
        whole = randaugment.apply(step, whole, (red, green, blue))
    planes = np.empty((3, whole.height, whole.width), np.uint8)
    for plane, channel in zip(planes, whole.split(), strict=True):
        plane[:] = np.asarray(channel)
    return torch.from_numpy(planes)
