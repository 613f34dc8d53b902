"""What training does to each batch, on the device: normalise, erase, mix.

Shapes: B batch, C channels, H W space, K classes.

All decisions are drawn on the CPU from the generator that is handed in, so they are the same on every device and no
device waits for the host. Only the noise of erasing is made on the device.
"""

from __future__ import annotations

import functools
import math
import random

import torch
from torch import Tensor

from convnext.data.config import InputConfig, MixConfig

_ERASE_AREA = (0.02, 1 / 3)  # share of the image
_ERASE_ASPECT = (0.3, 1 / 0.3)  # height by width
_TRIES = 10

Three = tuple[float, float, float]
Box = tuple[int, int, int, int]
"""Rows y0:y1 and columns x0:x1 of an image, as (y0, y1, x0, x1)."""


def prepare(images: Tensor, config: InputConfig) -> Tensor:
    """uint8 (B, C, H, W) in 0..255 to float32 (B, C, H, W): (value / 255 - mean) / std, in channels_last layout."""
    mean, scale = _constants(config.mean, config.std, images.device)
    # laid out while still uint8, a quarter of the bytes; channels_last is what convolutions run on fastest
    return images.contiguous(memory_format=torch.channels_last).float().sub_(mean).mul_(scale)


def prepare_padded(images: Tensor, sizes: Tensor, *, mean: Three, std: Three) -> Tensor:
    """uint8 (B, 3, H, W) to float32, normalised as `prepare` does, and zero beyond each image's size.

    sizes: int64 (B, 2), height and width, on any device. The zeros come after normalising, as in mmdetection and
    mmsegmentation: they are of the mean colour.
    """
    normal = prepare(images, InputConfig(mean=mean, std=std))
    sizes = sizes.to(images.device, non_blocking=True)
    below = torch.arange(images.shape[2], device=images.device) >= sizes[:, :1]  # (B, H)
    beside = torch.arange(images.shape[3], device=images.device) >= sizes[:, 1:]  # (B, W)
    return normal.masked_fill_((below[:, :, None] | beside[:, None, :]).unsqueeze(1), 0)


@functools.lru_cache(maxsize=8)
def _constants(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and 1 / std for values in 0..255, (C, 1, 1); kept, for copying them to a device would wait for it."""
    with torch.inference_mode(False):  # kept beyond an evaluation, so they must serve in training too
        means = torch.tensor([255 * value for value in mean], dtype=torch.float32, device=device)
        scales = torch.tensor([1 / (255 * value) for value in std], dtype=torch.float32, device=device)
        return means.view(-1, 1, 1), scales.view(-1, 1, 1)


def erase(images: Tensor, prob: float, generator: torch.Generator) -> Tensor:
    """Replaces, with probability `prob` for each image, a random rectangle by normal noise, in place; returns `images`.

    images: float (B, C, H, W), normalised (so that the noise is of its kind). The rectangle covers 2 % to 33 % of the
    image, at a height-by-width ratio of 0.3 to 3.3, drawn log-uniformly; where ten draws do not fit, nothing is erased.
    generator: on the CPU. Source: Zhong et al., "Random Erasing Data Augmentation" (2017), in timm's mode "pixel".
    """
    if prob <= 0:
        return images
    chance, noise_seed = _chance(generator), _seed(generator)
    noise = torch.Generator(images.device).manual_seed(noise_seed)
    channels, height, width = images.shape[1:]
    for image in images:
        box = _erase_box(height, width, chance) if chance.random() < prob else None
        if box is not None:
            y0, y1, x0, x1 = box
            shape = (channels, y1 - y0, x1 - x0)
            image[:, y0:y1, x0:x1] = torch.randn(shape, generator=noise, device=images.device, dtype=images.dtype)
    return images


def _erase_box(height: int, width: int, chance: random.Random) -> Box | None:
    low, high = math.log(_ERASE_ASPECT[0]), math.log(_ERASE_ASPECT[1])
    for _ in range(_TRIES):
        area = chance.uniform(*_ERASE_AREA) * height * width
        aspect = math.exp(chance.uniform(low, high))
        rows, columns = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if rows < height and columns < width:
            y0, x0 = chance.randint(0, height - rows), chance.randint(0, width - columns)
            return y0, y0 + rows, x0, x0 + columns
    return None


def mix(
    images: Tensor, targets: Tensor, *, num_classes: int, config: MixConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mixes the batch with itself in reverse order, by mixup or cutmix, and its targets alike, in place.

    images: float (B, C, H, W). targets: int64 (B,) in 0..K-1. generator: on the CPU. Returns `images` and soft
    targets float32 (B, K), label smoothing included, whose rows sum to 1; also where nothing is mixed this time. One
    share (lambda) and one box for the whole batch. In an odd batch the middle image is mixed with itself.

    Sources: Zhang et al., "mixup" (2018); Yun et al., "CutMix" (2019); combined as in timm's Mixup, mode "batch".
    """
    return mix_soft(images, smoothed(targets, num_classes, config.smoothing), config=config, generator=generator)


def mix_soft(images: Tensor, soft: Tensor, *, config: MixConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """As `mix`, of targets that are soft already: float (B, K); of several labels, their rows sum to anything."""
    share, box = draw(images.shape[2], images.shape[3], config, _chance(generator))
    return blend(images, soft, share, box)


def smoothed_labels(targets: Tensor, often: Tensor, smoothing: float) -> Tensor:
    """Several labels an image, uint8 (B, K), to float32 (B, K): a share `smoothing` of each target is how often its
    label occurs, float (K,) in 0..1. So the mean of a label's targets stays what it is."""
    return targets.float().lerp(often.to(targets.device).float().expand(len(targets), -1), smoothing)


def smoothed(targets: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """int64 (B,) to float32 (B, K): smoothing / K everywhere, and 1 - smoothing more at the target."""
    off = smoothing / num_classes
    soft = torch.full((len(targets), num_classes), off, dtype=torch.float32, device=targets.device)
    return soft.scatter_(1, targets.unsqueeze(1), 1 - smoothing + off)


def draw(height: int, width: int, config: MixConfig, chance: random.Random) -> tuple[float, Box | None]:
    """The share of the image itself (1: no mixing) and, for cutmix, the box that is taken from its partner."""
    on = config.mixup > 0 or config.cutmix > 0
    if not on or chance.random() >= config.prob:
        return 1.0, None
    cut = config.cutmix > 0 and (config.mixup <= 0 or chance.random() < config.switch_prob)
    alpha = config.cutmix if cut else config.mixup
    share = chance.betavariate(alpha, alpha)
    return cut_box(height, width, share, chance) if cut else (share, None)


def cut_box(height: int, width: int, share: float, chance: random.Random) -> tuple[float, Box]:
    """A box of about 1 - share of the image around a random point, and the share left exactly outside of it.

    The box is cut off at the image's border, which is why the share is counted anew.
    """
    side = math.sqrt(1 - share)
    rows, columns = int(height * side), int(width * side)
    y, x = chance.randrange(height), chance.randrange(width)
    y0, y1 = max(y - rows // 2, 0), min(y + (rows + 1) // 2, height)
    x0, x1 = max(x - columns // 2, 0), min(x + (columns + 1) // 2, width)
    return 1 - (y1 - y0) * (x1 - x0) / (height * width), (y0, y1, x0, x1)


def blend(images: Tensor, soft: Tensor, share: float, box: Box | None) -> tuple[Tensor, Tensor]:
    """Mixes images (B, C, H, W), in place, and soft targets (B, K) with their partners: the batch in reverse order.

    box None: share * image + (1 - share) * partner; else the partner's pixels inside the box. Targets by `share`.
    """
    if share == 1:
        return images, soft
    if box is None:
        images.lerp_(images.flip(0), 1 - share)
    else:
        y0, y1, x0, x1 = box
        images[:, :, y0:y1, x0:x1] = images[:, :, y0:y1, x0:x1].flip(0)
    return images, soft.lerp(soft.flip(0), 1 - share)


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(1 << 62, (1,), generator=generator))


def _chance(generator: torch.Generator) -> random.Random:
    """Python's generator, seeded from torch's: it draws Beta variates, which torch does from its global one only."""
    return random.Random(_seed(generator))
