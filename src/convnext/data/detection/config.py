"""How images are read and augmented for a detector. No torch here: the command line reads this first."""

from __future__ import annotations

from dataclasses import dataclass

from convnext.data.config import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True)
class DetectionInputConfig:
    """What an image looks like when it reaches a detector: its proportions are kept."""

    short: int = 800
    """Pixels of the shorter side, unless the longer one would grow beyond `long`."""
    long: int = 1333
    """Most pixels of the longer side."""
    divisor: int = 32
    """Images of a batch are padded, on the right and below, to a multiple of this."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Mean of each channel (red, green, blue), for values in 0..1."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Standard deviation of each channel, for values in 0..1."""


@dataclass(frozen=True)
class DetectionAugmentConfig:
    """What is done to each training image and its objects together."""

    shorts: tuple[int, ...] = (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
    """The shorter side is drawn from these."""
    long: int = 1333
    """Most pixels of the longer side."""
    flip: float = 0.5
    """Probability of a mirror image."""
    crop: float = 0.5
    """Probability of a random part instead of the whole: resized to one of `crop_shorts`, cut, and resized again."""
    crop_shorts: tuple[int, ...] = (400, 500, 600)
    """The shorter side before cutting."""
    crop_sides: tuple[int, int] = (384, 600)
    """Least and most pixels of each side of the part that is cut."""
    drop_empty: bool = True
    """Leave out training images without objects (the official recipe); False: they teach what is background."""
    min_side: int = 32
    """Leave out training images with a side shorter than this."""
