"""How images are read and augmented for a segmenter. No torch here: the command line reads this first."""

from __future__ import annotations

from dataclasses import dataclass, replace

from convnext.core.errors import UserError
from convnext.data.config import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True)
class SegmentationInputConfig:
    """What an image looks like when it reaches a segmenter: its proportions are kept."""

    short: int = 512
    """Pixels of the shorter side, unless the longer one would grow beyond `long`; 0: images keep their own pixels."""
    long: int = 2048
    """Most pixels of the longer side."""
    window: int = 512
    """Side of the square window that slides over the image; 0: the whole image at once."""
    stride: int = 341
    """Pixels from one window to the next; where windows overlap, their logits' mean counts."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Mean of each channel (red, green, blue), for values in 0..1."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Standard deviation of each channel, for values in 0..1."""

    def adapted(self, *, short: int | None, window: int | None) -> SegmentationInputConfig:
        """The same with other sizes, where they are given: windows step by two thirds of their side. Raises UserError
        for sizes that cannot be."""
        changed = self
        if short is not None:
            if not (short == 0 or 32 <= short <= 8192):
                raise UserError(f"--short is 32 to 8192 pixels, or 0 for images at their own size, not {short}.")
            changed = replace(changed, short=short, long=max(self.long, 4 * short))
        if window is not None:
            if not (window == 0 or 32 <= window <= 8192):
                raise UserError(f"--window is 32 to 8192 pixels, or 0 for the whole image at once, not {window}.")
            changed = replace(changed, window=window, stride=max(window * 2 // 3, 1))
        return changed


@dataclass(frozen=True)
class SegmentationAugmentConfig:
    """What is done to each training image and the classes of its pixels together."""

    scale: tuple[float, float] = (0.5, 2.0)
    """The image is resized as for evaluation, times a number drawn from this range."""
    crop: int = 512
    """Side of the square that is cut out; where the image is smaller, it is padded (without classes there)."""
    most: float = 0.75
    """A part of which one class fills more than this share is drawn again, up to ten times; 1: any will do."""
    flip: float = 0.5
    """Probability of a mirror image."""
    distort: bool = True
    """Change brightness, contrast, saturation and hue at random (SSD's photometric distortion)."""
