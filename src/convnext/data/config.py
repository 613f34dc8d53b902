"""Settings of the data room. No torch here: the command line reads these before torch is loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from convnext.core.errors import UserError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class InputConfig:
    """What a picture looks like when it reaches the model. Saved with every model, used wherever it is used."""

    size: int = 224
    """Side of the square that the model sees, in pixels."""
    resize: Literal["auto", "crop", "warp"] = "auto"
    """crop: shorter side to size / crop_ratio, then centre crop. warp: straight to size x size.
    auto: warp at 384 and above and at 32 and below, crop between (the official rule)."""
    crop_ratio: float = 0.875
    """Part of the resized picture that the centre crop keeps."""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Mean of each channel (red, green, blue), for values in 0..1."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Standard deviation of each channel, for values in 0..1."""


@dataclass(frozen=True)
class AugmentConfig:
    """What is done to each training image on its own."""

    crop: Literal["resized", "padded", "none"] = "resized"
    """resized: a random part at a random aspect, resized. padded: pad, then crop at random (small images).
    none: as in evaluation."""
    scale: tuple[float, float] = (0.08, 1.0)
    """Area of the random part, as a share of the image (crop = resized)."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Aspect of the random part, width by height (crop = resized)."""
    padding: int = 4
    """Pixels of padding on each side (crop = padded)."""
    flip: float = 0.5
    """Probability of a mirror image; 0 for digits and text."""
    randaugment_ops: int = 2
    """RandAugment operations for each image; 0 turns it off."""
    randaugment_magnitude: float = 9.0
    """Strength of RandAugment, 0..10."""
    randaugment_std: float = 0.5
    """Standard deviation of that strength."""


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
class SceneConfig:
    """What a picture looks like when it reaches a detector: its proportions are kept."""

    short: int = 800
    """Pixels of the shorter side, unless the longer one would grow beyond `long`."""
    long: int = 1333
    """Most pixels of the longer side."""
    divisor: int = 32
    """Pictures of a batch are padded, on the right and below, to a multiple of this."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Mean of each channel (red, green, blue), for values in 0..1."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Standard deviation of each channel, for values in 0..1."""


@dataclass(frozen=True)
class SceneAugmentConfig:
    """What is done to each training picture and its objects together."""

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
    """Leave out training pictures without objects (the official recipe); False: they teach what is background."""
    min_side: int = 32
    """Leave out training pictures with a side shorter than this."""


@dataclass(frozen=True)
class PixelConfig:
    """What a picture looks like when it reaches a segmenter: its proportions are kept."""

    short: int = 512
    """Pixels of the shorter side, unless the longer one would grow beyond `long`; 0: pictures keep their own pixels."""
    long: int = 2048
    """Most pixels of the longer side."""
    window: int = 512
    """Side of the square that is judged at a time, sliding over the picture; 0: the whole picture at once."""
    stride: int = 341
    """Pixels from one window to the next; where windows overlap, their logits' mean counts."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Mean of each channel (red, green, blue), for values in 0..1."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Standard deviation of each channel, for values in 0..1."""

    def adapted(self, *, short: int | None, window: int | None) -> PixelConfig:
        """The same with other sizes, where they are given: windows step by two thirds of their side. Raises UserError
        for sizes that cannot be."""
        changed = self
        if short is not None:
            if not (short == 0 or 32 <= short <= 8192):
                raise UserError(f"--short is 32 to 8192 pixels, or 0 for pictures as they are, not {short}.")
            changed = replace(changed, short=short, long=max(self.long, 4 * short))
        if window is not None:
            if not (window == 0 or 32 <= window <= 8192):
                raise UserError(f"--window is 32 to 8192 pixels, or 0 for the whole picture at once, not {window}.")
            changed = replace(changed, window=window, stride=max(window * 2 // 3, 1))
        return changed


@dataclass(frozen=True)
class PixelAugmentConfig:
    """What is done to each training picture and the classes of its pixels together."""

    scale: tuple[float, float] = (0.5, 2.0)
    """The picture is resized as for evaluation, times a number drawn from this range."""
    crop: int = 512
    """Side of the square that is cut out; where the picture is smaller, it is padded (without classes there)."""
    most: float = 0.75
    """A part of which one class fills more than this share is drawn again, up to ten times; 1: any will do."""
    flip: float = 0.5
    """Probability of a mirror image."""
    distort: bool = True
    """Change brightness, contrast, saturation and hue at random (SSD's photometric distortion)."""


@dataclass(frozen=True)
class LoaderConfig:
    """How images are read."""

    workers: int = -1
    """Processes that decode and augment; -1: as many as this machine can use, 0: none."""
    cache_megabytes: int = 1000
    """Memory for decoded images, where images are read without worker processes (small ones on a CPU); 0: none."""
    val_fraction: float = 0.1
    """Share of each class held out where the data has no validation split."""
    max_bad: float = 0.01
    """Unreadable images tolerated (skipped and named), as a share of the data; more is an error. At least 3 are."""
    max_pixels: int = 100_000_000
    """Images with more pixels than this are refused before they are decoded (decompression bombs)."""
    skip_bad: bool = False
    """Leave out annotations, and annotated images, that something is wrong with; False: they are listed as an error."""
