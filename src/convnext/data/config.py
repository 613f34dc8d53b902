"""Settings of the data room. No torch here: the command line reads these before torch is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from convnext.core.errors import UserError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class InputConfig:
    """What an image looks like when it reaches the model. Saved with every model, used wherever it is used."""

    size: int = 224
    """Side of the square that the model sees, in pixels."""
    resize: Literal["auto", "crop", "warp"] = "auto"
    """crop: shorter side to size / crop_ratio, then centre crop. warp: straight to size x size.
    auto: warp at 384 and above and at 32 and below, crop between (the official rule)."""
    crop_ratio: float = 0.875
    """Part of the resized image that the centre crop keeps."""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN
    """Mean of each channel (red, green, blue), for values in 0..1."""
    std: tuple[float, ...] = IMAGENET_STD
    """Standard deviation of each channel, for values in 0..1."""
    white: float = 0.0
    """Of a model that takes other than 3 channels: the value that becomes 1, in images of more than 8 bits; 0: the
    greatest that their type holds."""


@dataclass(frozen=True)
class MixConfig:
    """What is done to each training batch, on the device."""

    mixup: float = 0.8
    """Alpha of mixup's Beta distribution; 0 turns mixup off."""
    cutmix: float = 1.0
    """Alpha of cutmix's Beta distribution; 0 turns cutmix off."""
    prob: float = 1.0
    """Probability that a batch is mixed at all."""
    switch_prob: float = 0.5
    """Probability of cutmix rather than mixup, where both are on."""
    erase: float = 0.25
    """Probability that a random rectangle of an image is replaced by noise."""
    smoothing: float = 0.1
    """Label smoothing: the share of the target spread over all classes."""


@dataclass(frozen=True)
class LoaderConfig:
    """How images are read."""

    workers: int = -1
    """Processes that decode and augment; -1: as many as this machine can use, 0: none."""
    cache_megabytes: int = 1000
    """Memory for decoded images, where images are read without worker processes (small ones on a CPU); 0: none."""
    val_fraction: float = 0.1
    """Share of each class held out where the data has no validation split."""
    train_fraction: float = 1.0
    """Share of the training images that is trained on, of each class of a classifier the same, drawn by the seed."""
    max_bad: float = 0.01
    """Unreadable images tolerated (skipped and named), as a share of the data; more is an error. At least 3 are."""
    max_pixels: int = 100_000_000
    """Images with more pixels than this are refused before they are decoded (decompression bombs)."""
    bands: int = 3
    """Bands of an image. 3: its colours; 1: grey; 4: with opacity or another band, as they are; others: those of TIFF
    and .npy files."""
    white: float = 0.0
    """Where bands is not 3: the value that counts as white, in images of more than 8 bits; 0: measured."""
    skip_bad: bool = False
    """Leave out annotations, and annotated images, that something is wrong with; False: they are listed as an error."""


def loader_for(options: Mapping[str, str], *, skip_bad: bool = False) -> LoaderConfig:
    """The settings for data that is read before its recipe is known, from settings as given ("loader.bands" -> "4").
    Raises UserError for bands that are no number from 1 on."""
    given = options.get("loader.bands") or "3"
    if not (given.isascii() and given.isdigit()) or int(given) < 1:
        raise UserError(f"--loader.bands is a number of bands, 1 or more, not {given}.")
    return LoaderConfig(bands=int(given), skip_bad=skip_bad)
